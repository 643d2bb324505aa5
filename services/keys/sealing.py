"""Where secrets meet the tables: sealed before they are kept, opened only to be shown.

Every path that keeps or shows a secret goes through here, so that the vault and the rows of data
keys meet in one place. A secret that opens is also held against the digest that the doors know.
"""

from dataclasses import dataclass

from services.keys.domain import Key
from services.keys.store import Unit
from services.keys.vault import DamagedError, Vault
from shared.partner_key import PartnerKey


@dataclass(frozen=True, slots=True)
class Sealing:
    """Seals and opens the secrets of keys inside a transaction."""

    vault: Vault

    async def sealed(self, unit: Unit, network_id: int, key_id: str, secret: PartnerKey) -> bytes:
        """`secret` as the key's row keeps it; the network's data key is made if there is none."""
        data_key = await unit.data_key(network_id)
        if data_key is None:
            made = self.vault.new_data_key(network_id, await unit.master_key())
            data_key = await unit.keep_data_key(network_id, made)
        return self.vault.seal(data_key, network_id, key_id, secret)

    async def opened(self, unit: Unit, key: Key) -> PartnerKey:
        """The secret of `key`.

        Raises:
            DamagedError: its row or the data key's was changed by hand.
            UnavailableError: this process does not hold the master key yet.
        """
        data_key = await unit.data_key(key.network_id)
        if data_key is None:
            raise DamagedError(f"the data key of network {key.network_id} was deleted")
        secret = self.vault.open(data_key, key.network_id, key.key_id, key.sealed)
        if secret.digest != key.digest:
            raise DamagedError(f"the secret of {key.key_id} is not the one that the doors know")
        return secret
