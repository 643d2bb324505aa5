"""Generates the reference documents from the code, so that they cannot disagree with it.

`python -m tools.docs` writes `docs/asyncapi.yaml`, `docs/openapi.yaml`, `docs/configuration.md` and
the pages for partners in `services/gateway/docs`; with `--check` it writes nothing and fails if one
is not current.
"""
