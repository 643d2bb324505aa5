"""Local secrets are made once, and readable by their owner alone."""

import json

import jwt
import pytest

from deploy.local import secrets


def test_secrets_stay_the_same_from_run_to_run(tmp_path):
    """A key encrypted yesterday can be decrypted today."""
    first = secrets.ensure(tmp_path)
    contents = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    second = secrets.ensure(tmp_path)

    assert second == first
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == contents


def test_only_the_owner_may_read_them(tmp_path):
    """Another user of the machine cannot."""
    secrets.ensure(tmp_path / "secrets")

    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "secrets").iterdir()}

    assert modes == {0o600}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


def test_a_token_signed_with_the_private_key_verifies_by_the_key_set(tmp_path):
    """`portico token` and the services agree; a token of another key is refused."""
    mine = secrets.ensure(tmp_path / "mine")
    other = secrets.ensure(tmp_path / "other")
    key_set = jwt.PyJWKSet.from_dict(json.loads(mine.jwks.read_text()))

    def verified(signed_by):
        token = jwt.encode({"sub": "s"}, signed_by.token_key.read_text(), algorithm="EdDSA")
        return jwt.decode(token, key_set[secrets.TOKEN_KEY_ID].key, algorithms=["EdDSA"])

    assert verified(mine) == {"sub": "s"}
    with pytest.raises(jwt.InvalidSignatureError):
        verified(other)


def test_no_secret_shows_in_a_repr(tmp_path):
    """A settings dump or a traceback gives nothing away."""
    made = secrets.ensure(tmp_path)

    assert made.identity not in repr(made)
