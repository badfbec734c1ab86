"""A listing of the Hub is not trusted."""

import pytest

from configs.errors import UserError
from leap.downloads.fetch import RECORD, STAGING, RemoteFile, refuse_unsafe


def test_a_list_that_cannot_be_is_refused():
    good = "0" * 40
    for files in (
        [RemoteFile("a", 1, git_sha1=good), RemoteFile("a/b", 1, git_sha1=good)],
        [RemoteFile("a", -1, git_sha1=good)],
        [RemoteFile("a", 1, sha256=good)],
        [RemoteFile("a", 1)],
        *(
            [RemoteFile(path, 1, git_sha1=good)]
            for path in (
                "a/../../out",
                "a\\..\\out",
                "C:/out",
                f"{STAGING}/x",
                RECORD,
                "a//b",
                ".",
                "a\n",
                "",
                None,
                "n" * 256,
                ".git/config",
                "a/.GIT/hooks/x",
            )
        ),
    ):
        with pytest.raises(UserError):
            refuse_unsafe(files, "me/model")
