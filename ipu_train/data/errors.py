"""The error of this room."""

_IN_WORKER = "Caught DataError in DataLoader worker"


class DataError(ValueError):
    """Images that cannot be used. The message names the file or folder and says what to do, on one line.

    torch raises an error of a worker process again in the main one with the worker's traceback as its text;
    of that, only the message itself is kept. Names of files may hold line breaks and bytes that are no text: these are
    shown escaped.
    """

    def __init__(self, message: str = ""):
        if message.startswith(_IN_WORKER):
            message = message.rsplit("DataError: ", 1)[-1].strip()
        message = message.encode("utf-8", "backslashreplace").decode("utf-8")
        super().__init__(
            "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
        )
