"""Where in a request the page stands; pure."""

from collections.abc import Mapping

from services.reporting.asking.members import Body, object_of, whole
from services.reporting.paging import PAGE_SIZE_DEFAULT, Page


def read_page(body: Body, parameters: Mapping[str, str], size: int = PAGE_SIZE_DEFAULT) -> Page:
    """The page by the query string, else the body, `paging`, `pagination`, `limit`, in this order.

    Args:
        body: of the request.
        parameters: of its query string.
        size: of the page, if nothing says it.

    Raises:
        InvalidError: a page or size is no number.
    """
    sources = (parameters, body, object_of(body, "paging"), object_of(body, "pagination"))
    numbers = [source["page"] for source in sources if source.get("page") not in (None, "")]
    sizes = [source["page_size"] for source in sources if source.get("page_size") not in (None, "")]
    if body.get("limit") not in (None, ""):
        sizes.append(body["limit"])
    return Page.asked(
        whole(numbers[0], "page") if numbers else None,
        (whole(sizes[0], "page_size") if sizes else 0) or size,
    )
