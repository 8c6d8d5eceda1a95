"""The ECR lifecycle: rules for removing, archiving, blocking and holding images, and plans that apply them."""
