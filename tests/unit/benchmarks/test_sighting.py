"""What counts as a door that opened again, by the moments at which requests were sent and read."""

from tests.revocation_parts import NOBODY, Sighting


def test_a_request_sent_after_a_refusal_was_read_and_let_in_is_a_door_opened_again():
    """One sent before, and let in while the refusal was on its way, is not."""
    sighting = Sighting()

    sighting.note(200, 1.0, 1.1)
    sighting.note(401, 2.0, 2.5)
    sighting.note(200, 2.4, 2.6)
    assert sighting.reopened == 0
    sighting.note(200, 2.6, 2.7)

    assert (sighting.reopened, sighting.accepted_at, sighting.refused_at) == (1, 2.6, 2.5)


def test_a_door_that_does_not_answer_has_neither_let_in_nor_refused():
    """Nor has one that does not know yet."""
    sighting = Sighting()

    sighting.note(NOBODY, 1.0, 1.1)
    sighting.note(503, 2.0, 2.1)

    assert sighting == Sighting()
