"""What is done with single-use links, one method a command: load, decide, save, tell.

Staff make, list and withdraw; a visitor, who is known by nothing but the token, looks and opens.
A secret leaves only after it is committed that it was shown. If the process dies between the two,
the link is used and nobody has seen the key: staff make a new one.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr

from services.keys.domain import Cause
from services.keys.sealing import Sealing
from services.keys.shares import domain
from services.keys.shares.credentials import Passphrases, ShareToken
from services.keys.shares.domain import Share, Target
from services.keys.shares.page import View
from services.keys.shares.store import ShareStore
from services.keys.staff import CHANGE, READ, Permits, Staff
from services.keys.telling import Confirmations
from shared.clock import Clock
from shared.errors import NotFoundError
from shared.faultpoint import point

LISTED_MAX: Final = 100
"""Links of a key that are listed, the newest."""


@dataclass(frozen=True, slots=True)
class Wish:
    """The link that staff ask for; its bounds are those of `wire.MakeShare`."""

    expires_in_seconds: int
    passphrase: SecretStr | None
    reason: str


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who opens a link: all that is known is where the request came from."""

    request_id: str
    client_ip: str

    def cause(self, at: float) -> Cause:
        """Them as the cause of what happens now."""
        return Cause(domain.VISITOR, at, "", self.request_id, self.client_ip)


@dataclass(frozen=True, slots=True)
class Listed:
    """A link, and what it stands at."""

    share: Share
    state: domain.State


@dataclass(frozen=True, slots=True)
class ShareHandlers:
    """What the API calls.

    Attributes:
        name_of: the name of a network, for people.
        public_url: of the gateway, as partners reach it; without a slash at its end.

    Raises, all of them:
        UnavailableError: Postgres does not answer; nothing has changed, and nothing was shown.
    """

    store: ShareStore
    sealing: Sealing
    permits: Permits
    confirmations: Confirmations
    passphrases: Passphrases
    clock: Clock
    name_of: Callable[[int], str]
    public_url: str

    # --- staff ----------------------------------------------------------------------------------

    async def make(self, staff: Staff, key_id: str, wish: Wish) -> tuple[Listed, ShareToken]:
        """A new link to a key, and its token, which is kept nowhere.

        Raises:
            ForbiddenError: the caller may not change keys.
            NotFoundError: the network has no such key.
            ConflictError: it is not active, or has as many open links as it may.
        """
        await self.permits.permit(staff, CHANGE, f"share {key_id}")
        passphrase = await self._sealed(wish.passphrase)
        cause = staff.cause(self.clock.time(), wish.reason)
        token = ShareToken.generate()
        share = Share(
            share_id=f"share_{secrets.token_hex(10)}",
            network_id=staff.network_id,
            key_id=key_id,
            digest=token.digest,
            has_passphrase=bool(passphrase),
            passphrase=passphrase,
            created_at=cause.at,
            created_by=cause.actor.subject,
            created_by_name=cause.actor.name,
            expires_at=cause.at + wish.expires_in_seconds,
        )
        async with self.store.transaction("making a link") as unit:
            target = await unit.target(staff.network_id, key_id)
            count = await unit.open_count(staff.network_id, key_id, cause.at)
            event = domain.made(share, target.key, count, cause)
            await unit.add(share)
            await unit.append([event], cause.at)
        self.confirmations.count([event])
        return _listed(share, target, cause.at), token

    def address_of(self, token: ShareToken) -> str:
        """The link itself, in clear, for the one answer that carries it."""
        return f"{self.public_url}/v1/shares/{token.reveal()}"

    async def _sealed(self, passphrase: SecretStr | None) -> bytes:
        if passphrase is None:
            return b""
        async with self.passphrases.turn() as hashing:
            return await hashing.sealed(passphrase)

    async def listed(self, staff: Staff, key_id: str) -> Sequence[Listed]:
        """The newest links of a key.

        Raises:
            ForbiddenError: the caller may not read keys.
            NotFoundError: the network has no such key.
        """
        await self.permits.permit(staff, READ, f"list links of {key_id}")
        target = await self.store.look(staff.network_id, key_id)
        found = await self.store.of_key(staff.network_id, key_id, LISTED_MAX)
        return [_listed(share, target, self.clock.time()) for share in found]

    async def withdraw(self, staff: Staff, key_id: str, share_id: str, reason: str) -> Listed:
        """End a link that nobody has used; asked again, the link as it is.

        Raises:
            ForbiddenError: the caller may not change keys.
            NotFoundError: the network has no such key, or the key no such link.
            ConflictError: it was used, was locked, or has expired.
        """
        await self.permits.permit(staff, CHANGE, f"withdraw a link of {key_id}")
        cause = staff.cause(self.clock.time(), reason)
        async with self.store.transaction("withdrawing a link") as unit:
            share, target = await unit.share(staff.network_id, key_id, share_id)
            change = domain.withdrawn(share, target, cause)
            if change is None:
                return _listed(share, target, cause.at)
            share, event = change
            await unit.keep(share)
            await unit.append([event], cause.at)
        self.confirmations.count([event])
        return _listed(share, target, cause.at)

    # --- visitors -------------------------------------------------------------------------------

    async def look(self, token: ShareToken) -> View:
        """A link as it stands; changes nothing.

        Raises:
            NotFoundError: there is no such link.
        """
        share = await self._find(token)
        target = await self.store.look(share.network_id, share.key_id)
        state = domain.state_of(share, target, self.clock.time())
        return View(share, target.key, self.name_of(share.network_id), state)

    async def open(self, visitor: Visitor, token: ShareToken, passphrase: SecretStr) -> View:
        """What a visitor's press came to; with the secret if this was the one that opens.

        Raises:
            NotFoundError: there is no such link.
        """
        share = await self._find(token)
        if not share.passphrase:
            return await self._opened(visitor, share, fits=not share.has_passphrase)
        async with self.passphrases.turn() as hashing:
            share = await self._find(token)
            fits = await hashing.fits(share.passphrase, passphrase) if share.passphrase else False
            return await self._opened(visitor, share, fits=fits)

    async def _opened(self, visitor: Visitor, found: Share, *, fits: bool) -> View:
        """Decide under the link's lock, where a passphrase that fits may come too late."""
        async with self.store.transaction("opening a link") as unit:
            share, target = await unit.share(found.network_id, found.key_id, found.share_id)
            point("shares.locked")
            cause = visitor.cause(self.clock.time())
            opening = domain.opened(share, target, fits=fits, cause=cause)
            is_shown = opening.outcome == "shown"
            secret = await self.sealing.opened(unit, target.key) if is_shown else None
            told = [opening.event] if opening.event else []
            if opening.share != share:
                await unit.keep(opening.share)
                point("shares.saved")
            if told:
                await unit.append(told, cause.at)
            point("shares.before_commit")
        point("shares.after_commit")
        self.confirmations.count(told)
        name = self.name_of(share.network_id)
        return View(opening.share, target.key, name, opening.outcome, secret)

    async def _find(self, token: ShareToken) -> Share:
        if not token.is_well_formed:
            raise NotFoundError
        return await self.store.find(token.digest)


def _listed(share: Share, target: Target, now: float) -> Listed:
    return Listed(share, domain.state_of(share, target, now))
