"""A benchmark that is not there says how to get it."""

from tests.conftest import assert_one_line_error, run_script


def test_verifying_a_folder_that_is_not_there_says_how_to_get_it(workspace):
    (workspace / "dataset").unlink()
    assert_one_line_error(
        run_script("utils/verify_dataset.py"), "benchmark not found", "download_vlabench_with_retry.py"
    )
