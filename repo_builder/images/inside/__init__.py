"""What runs in the build stage or in the container: Python 3.9, no package of ours."""
