"""The pages for partners, as `make docs` wrote them; `services/gateway/pages.py` serves them."""
