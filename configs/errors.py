"""The error a user can mend: its text becomes one line on stderr and exit status 2."""


class UserError(Exception):
    """Something outside the program is wrong: say what was found, what is allowed and the next command to run.

    `kind` names what is wrong where code tells errors apart; the message is for people only.
    """

    def __init__(self, message: str = "", kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind
