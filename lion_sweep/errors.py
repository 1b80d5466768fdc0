"""The one error that a user can mend: shown as a plain sentence, without a traceback."""


class UserError(ValueError):
    """Something the user asked for is impossible; the message says what to type instead."""
