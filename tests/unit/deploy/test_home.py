"""The folder of a run belongs to one run, and `make reset` empties it."""

import pytest

from deploy.local import home
from shared.errors import SetupError


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    """Two supervisors never share data; the message says what to do."""
    with (
        home.locked(tmp_path),
        pytest.raises(SetupError, match=r"running already.*pid \d+.*PORTICO_HOME"),
        home.locked(tmp_path),
    ):
        pass


def test_the_folder_is_free_again_after_the_run(tmp_path):
    """The next run needs no clean-up."""
    with home.locked(tmp_path):
        pass

    with home.locked(tmp_path):
        assert (tmp_path / home.LOCK).exists()


def test_reset_forgets_everything_but_the_jars(tmp_path):
    """Data, logs and secrets go; what took minutes to fetch stays."""
    jars = tmp_path / "kafka" / "libs"
    for folder in (jars, tmp_path / "kafka" / "data", tmp_path / "secrets"):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    with home.locked(tmp_path):
        pass

    home.forget(tmp_path, keep=jars)

    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["kafka/libs/file", home.LOCK]


def test_reset_refuses_while_running(tmp_path):
    """Data is not pulled from under a running platform."""
    (tmp_path / "data").mkdir()
    with home.locked(tmp_path), pytest.raises(SetupError, match="running already"):
        home.forget(tmp_path, keep=tmp_path / "kafka")

    assert (tmp_path / "data").exists()


def test_reset_touches_no_folder_that_was_never_a_run(tmp_path):
    """A mistyped PORTICO_HOME costs nothing."""
    (tmp_path / "thesis").write_text("x")

    home.forget(tmp_path, keep=tmp_path / "kafka")

    assert (tmp_path / "thesis").exists()


def test_what_is_not_ours_is_never_deleted(tmp_path):
    """Even in a folder that was named by mistake."""
    (tmp_path / home.LOCK).write_text("")
    (tmp_path / "thesis.txt").write_text("ten years")
    (tmp_path / "postgres").mkdir()

    home.forget(tmp_path, keep=tmp_path / "kafka" / "libs")

    assert (tmp_path / "thesis.txt").read_text() == "ten years"
    assert not (tmp_path / "postgres").exists()
