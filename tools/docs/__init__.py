"""Generates the reference documents from the code, so that they cannot disagree with it.

`python -m tools.docs` writes `docs/asyncapi.yaml`, `docs/openapi.yaml` and
`docs/configuration.md`; with `--check` it writes nothing and fails if one is not current.
"""
