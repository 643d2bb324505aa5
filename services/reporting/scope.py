"""Whose data a query may touch."""

from dataclasses import dataclass

from shared.errors import ForbiddenError
from shared.identity import Identity


@dataclass(frozen=True, slots=True)
class Scope:
    """One partner of one network. Every query of the stores takes it; none exists without it.

    Attributes:
        network_id: the network.
        network_affiliate_id: its partner.
    """

    network_id: int
    network_affiliate_id: int

    @classmethod
    def of(cls, identity: Identity) -> "Scope":
        """The scope of a caller who came in with a partner's key.

        Raises:
            ForbiddenError: the caller is no partner.
        """
        if identity.network_id < 1 or identity.network_affiliate_id < 1:
            raise ForbiddenError
        return cls(identity.network_id, identity.network_affiliate_id)
