"""The one exception that users are meant to see."""


class UserError(Exception):
    """Bad input: one line that names the file or value and the remedy. The command line prints it and exits with 2."""
