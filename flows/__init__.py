"""What happens, in order. One file per process; each reads like the model."""
