"""Which host is asked, and for how long."""

import os
import subprocess
import sys

import pytest

from configs.errors import UserError
from leap.downloads.access import RateLimited, RetryPolicy, mirror_advice


def test_waits_that_never_help_end_with_a_line():
    policy = RetryPolicy(first_pause_s=0.001)

    def refused():
        raise RateLimited("hub", 0.001)

    with pytest.raises(UserError, match="still refuses after 8 waits"):
        policy.call("a list", refused)


def test_the_mirror_is_named_where_the_hub_fails_and_not_where_another_host_is_asked(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert "--mirror asks hf-mirror.com" in mirror_advice()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert mirror_advice() == ""


def test_the_mirror_is_chosen_on_request_and_says_what_it_lacks():
    code = (
        "import os; from leap.downloads.access import choose_host; choose_host(mirror=True)\n"
        "from huggingface_hub import constants\n"
        "print(constants.ENDPOINT, constants.HF_HUB_DISABLE_XET, constants.HF_HUB_DISABLE_IMPLICIT_TOKEN)"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    announced, chosen = done.stdout.splitlines()
    assert "hf-mirror.com" in announced
    assert "no Xet data" in announced
    assert chosen == "https://hf-mirror.com True True"
