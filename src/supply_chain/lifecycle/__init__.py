"""The ECR lifecycle: what may be aged out, archived, blocked or held; plans of it, and carrying them out."""
