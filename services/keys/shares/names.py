"""What networks are called, for the people who are sent a link."""

from shared.events import NetworkProfile
from shared.replica import Replica


class NetworkNames:
    """The displayed names of networks, as `network.profile.v1` has them.

    Args:
        profiles: that topic. A name that has not been read yet, or never was told, is replaced by
            the network's number: no link waits for it.
    """

    def __init__(self, profiles: Replica[NetworkProfile]) -> None:
        self._profiles = profiles

    def of(self, network_id: int) -> str:
        """The name of a network."""
        profile = self._profiles.get(str(network_id))
        name = "" if profile is None else profile.displayed_name.strip()
        return name or f"Network {network_id}"
