"""Processes that end with the one that started them, also where that is killed.

What belongs here is how the system is asked for it; who starts what does not.
"""

import shutil
import threading


def ended_with_us() -> list[str]:
    """Return what to put before a command so that the system ends it by SIGTERM when we are gone.

    Returns
    -------
    list of str
        Empty where there is no `setpriv` (util-linux), or outside the main thread: what the system
        watches is the thread that starts the process.
    """
    program = shutil.which("setpriv")
    lasting = threading.current_thread() is threading.main_thread()
    return [program, "--pdeathsig", "TERM"] if program and lasting else []
