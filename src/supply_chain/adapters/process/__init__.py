"""External commands, and the process that ends them when this one is killed."""
