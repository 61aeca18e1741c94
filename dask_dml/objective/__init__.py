"""The problems that are solved: losses, penalties, conventions and certificates."""
