"""What the workers of the tests beside this file do; a module of its own, as every worker imports it."""

import multiprocessing.util
import os
import signal
import time
from pathlib import Path


def double(number):
    return 2 * number


def die_once(path):
    """Kill the own process in the first try of each path, as the system does when memory runs out."""
    tries = Path(path)
    first = not tries.exists()
    tries.touch()
    if first:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def die_always(path):
    with open(path, "a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


def fail_on_three(number):
    if number == 3:
        raise ValueError("three")
    return number


def note_and_sleep(folder):
    note = Path(folder, str(os.getpid()))
    note.touch()
    try:
        time.sleep(60)
    finally:
        note.unlink()


def note_and_sleep_or_answer(folder):
    return "done" if folder is None else note_and_sleep(folder)


def variable(name):
    return os.environ.get(name)


def variable_and_wait(name_and_number):
    time.sleep(0.5)
    return variable(name_and_number[0])


class Stubborn:
    """Takes its time to go; Python drops what is raised meanwhile."""

    def __init__(self, folder):
        self.note = Path(folder, str(os.getpid()))

    def __del__(self):
        self.note.touch()
        time.sleep(3)


def finalise_and_sleep(folder):
    if folder is None:
        return "done"
    Stubborn(folder)
    time.sleep(60)


def tidy_up_at_the_end(path):
    multiprocessing.util.Finalize(None, _tidy_up, [path], exitpriority=1)
    return "done"


def _tidy_up(path):
    time.sleep(1)
    Path(path).touch()
