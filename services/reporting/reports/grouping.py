"""The SQL of a report: one grouping over the union of the three kinds of fact.

A group has the sums of `measures.SUMS` by name, `total_click`, and for each key `id<i>` and, where
the key has one, `label<i>`. Values are bound, never part of the text.
"""
# ruff: noqa: S608 - see above

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from services.reporting.asking import calendar
from services.reporting.asking import conditions as asked
from services.reporting.asking.bound import Bound
from services.reporting.asking.interval import DAY, Interval
from services.reporting.asking.query import Query
from services.reporting.facts import tables
from services.reporting.facts.columns import EMPTY, Column
from services.reporting.facts.tallies import TALLY, Which
from services.reporting.reports import measures
from services.reporting.reports.measures import Counted
from services.reporting.reports.pricing import TALLY_OF_FACT, Pricing


@dataclass(frozen=True, slots=True)
class Key:
    """What facts are grouped by.

    Attributes:
        id: expression over a scoped view.
        label: likewise; empty where nothing but the id is known.
        word: likewise, from which both follow and which is quicker to group by; empty for none.
        shown_id: expression over `$id` and `$label`, the group's, for the id that rows show.
        shown_label: likewise for the label.
    """

    id: str
    label: str = ""
    word: str = ""
    shown_id: str = "toString($id)"
    shown_label: str = "toString($id)"


def key_of(column: Column, interval: Interval, bound: Bound) -> Key:
    """The key of a column."""
    if column.time:
        return _time_key(column, interval, bound)
    if column.is_number:
        named = "if($label = '', toString($id), $label)"
        known = tables.Word.sql(column.word)[1:] if column.word else (column.id, column.label)
        return Key(
            *known,
            column.word,
            f"if($id = 0, '{EMPTY}', toString($id))",
            f"if($id = 0, '{EMPTY}', {named})",
        )
    shown = f"if($id = '', '{EMPTY}', $id)"
    cell_id = f"transform({column.id}, ['{EMPTY}'], [''])"
    return Key(cell_id, shown_id=shown, shown_label=shown)


def bucket_key(begins: Sequence[int], bound: Bound) -> Key:
    """The key of buckets of time that begin at these seconds."""
    return Key(_begin(begins, lambda: bound.text(list(begins), "Array(UInt32)")))


def _begin(begins: Sequence[int], bound: Callable[[], str]) -> str:
    """The last of these not behind a fact; its day is enough where all are UTC midnights.

    Whether one alone begins a day or a year is not known.
    """
    is_by_day = all(begin % DAY == 0 for begin in begins)
    moment = f"toUInt32(date) * {DAY}" if is_by_day else "stamp"
    days = list(range(begins[0], begins[-1] + 1, DAY))
    if is_by_day and len(begins) > 1 and list(begins) == days:
        return moment
    return f"roundDown({moment}, {bound()})"


def _time_key(column: Column, interval: Interval, bound: Bound) -> Key:
    if column.time == "hour":
        label = "concat(leftPad(toString($id), 2, '0'), ':00')"
        return Key(_hour(interval, bound), shown_label=label)
    unit: calendar.LongUnit = column.time or "date"
    begins = calendar.starts(interval, unit)
    ids = bound.text(begins, "Array(UInt32)")
    names = bound.text(calendar.labels(begins, unit, interval.zone), "Array(String)")
    return Key(_begin(begins, lambda: ids), shown_label=f"transform($id, {ids}, {names}, '')")


def _hour(interval: Interval, bound: Bound) -> str:
    """The hour of the day, by the offsets that hold in the interval."""
    changes, ahead = zip(*calendar.offsets(interval), strict=True)
    begins = bound.text(list(changes), "Array(UInt32)")
    offsets = bound.text(list(ahead), "Array(Int32)")
    offset = f"transform(roundDown(stamp, {begins}), {begins}, {offsets}, toInt32(0))"
    return f"toUInt8(intDiv(stamp + {offset}, 3600) % 24)"


@dataclass(frozen=True, slots=True)
class Grouping:
    """How facts become groups.

    Attributes:
        query: which facts.
        keys: what makes a group; none for one group of all facts.
        pricing: what amounts are worth.
        bound: takes the values.
        kept: expression over the groups, by the names above; empty to keep all.
        only: a condition over each fact's keys; empty for all facts.
        is_dated: whether it is known when a name was last used, where an id has had several.
    """

    query: Query
    keys: Sequence[Key]
    pricing: Pricing
    bound: Bound
    kept: str = ""
    only: str = ""
    is_dated: bool = True

    @property
    def ids(self) -> list[str]:
        """The names of the groups' ids."""
        return [f"id{i}" for i in range(len(self.keys))]

    def groups(self) -> str:
        """A SELECT of the groups, in parentheses.

        `unsettled` tells an amount without a rate and, unless names are dated, an id with several.
        Each kind of fact is grouped by itself and only by what it counts, then the three are added
        up: so a click costs the sums of a click, and few rows have zeros.
        """
        labels = [f"{self._label(i)} AS label{i}_" for i in self._labelled]
        sums = [f"sum(s_{name}) AS {name}" for name in measures.SUMS]
        renamed = [
            f"minIf(label{i}, label{i} != '') != label{i}_"
            for i in self._labelled
            if not self._is_dated(i)
        ]
        unsettled = " OR ".join(["max(s_unpriced)", *renamed])
        chosen = [*self.ids, *labels, *sums, f"{unsettled} AS unsettled"]
        parts = " UNION ALL ".join(self._summed(*part) for part in self._parts())
        inner = (
            f"SELECT {', '.join(chosen)}, unique_click + duplicate_click AS total_click"
            f" FROM ({parts}){self._by}"
        )
        return (
            f"(SELECT * FROM ({inner}) WHERE {self.kept} OR unsettled)"
            if self.kept
            else f"({inner})"
        )

    def tallied(self, each_max: int = 0) -> str:
        """A SELECT of the groups of each kind of fact by their tallies, for the reader to judge.

        It has a fifth of the text of `groups`, and a statement costs by its text: for few groups.

        Its rows are the place of the kind in `measures.counted`, the ids, the tally, how many facts
        there are, what their amounts add up to and how many amounts have no rate, if that does not
        follow from the tally. A key's word comes in place of its id and of the tally.

        Args:
            each_max: how many groups there are at most of each kind; 0 for all.
        """
        limit = f" LIMIT {each_max}" if each_max else ""
        return " UNION ALL ".join(
            f"{self._tallied(kind, table, conditions)}{limit}"
            for kind, (table, _, conditions) in enumerate(self._parts())
        )

    def unpriced(self) -> str:
        """A SELECT of all facts that count and whose amounts have no rate, in parentheses."""
        parts = [
            self._selected(
                table,
                ["currency_id", "stamp", "_appended"],
                [*conditions, self._is_missing(TALLY), counted.priced.sql(TALLY)],
            )
            for table, counted, conditions in self._parts()
        ]
        return f"({' UNION ALL '.join(parts)})"

    @property
    def _labelled(self) -> list[int]:
        return [i for i, key in enumerate(self.keys) if key.label]

    @property
    def _by(self) -> str:
        return f" GROUP BY {', '.join(self.ids)}" if self.keys else ""

    def _summed(self, table: str, counted: Counted, conditions: Sequence[str]) -> str:
        """The groups of one kind of fact; what it does not count is zero."""
        keys = [f"{key.id} AS id{i}" for i, key in enumerate(self.keys)]
        labels = [column for i in self._labelled for column in self._labels(i)]
        nothing = dict.fromkeys(measures.COUNTS, "toUInt64(0)") | dict.fromkeys(
            measures.AMOUNTS, f"toDecimal128(0, {self.pricing.places})"
        )
        values = nothing | self._counts(counted) | self._amounts(counted)
        sums = [f"{values[name]} AS s_{name}" for name in measures.SUMS]
        unpriced = f"{self._unpriced(counted, self._group_tally)} AS s_unpriced"
        chosen = [*keys, *labels, *sums, unpriced]
        kept = [*conditions, self.only] if self.only else conditions
        by = ", ".join(key.word or f"id{i}" for i, key in enumerate(self.keys))
        return f"{self._selected(table, chosen, kept)}{f' GROUP BY {by}' if by else ''}"

    def _labels(self, i: int) -> Iterator[str]:
        """The last label of a group, and when it was: a group by a word has but one."""
        label = self.keys[i].label
        named = f"{label} != ''"
        last = label if self.keys[i].word else f"argMaxIf({label}, stamp, {named})"
        yield f"{last} AS label{i}"
        if self._is_dated(i):
            yield f"maxIf(stamp, {named}) AS stamp{i}"

    def _label(self, i: int) -> str:
        """The label of groups put together: the last, or the only one."""
        if self._is_dated(i):
            return f"argMaxIf(label{i}, stamp{i}, label{i} != '')"
        return f"max(label{i})"

    def _is_dated(self, i: int) -> bool:
        """Looking when costs a quarter of a report by a word, and few ids ever change names."""
        return self.is_dated or not self.keys[i].word

    def _tallied(self, kind: int, table: str, conditions: Sequence[str]) -> str:
        """The groups of one kind of fact by their tallies."""
        ids = [f"{key.id} AS id{i}" for i, key in enumerate(self.keys) if not key.word]
        told = next((key.word for key in self.keys if key.word), TALLY)
        missing = "0" if self.pricing.is_by_tally else f"countIf({self.pricing.is_missing})"
        chosen = [str(kind), *ids, told, "count()", f"sum({self.pricing.amount})", missing]
        by = ", ".join([*(each.rpartition(" ")[2] for each in ids), told])
        return f"{self._selected(table, chosen, conditions, is_grouped=True)} GROUP BY {by}"

    def _counts(self, counted: Counted) -> dict[str, str]:
        return {name: self._of(which, "count") for name, which in counted.counts.items()}

    def _amounts(self, counted: Counted) -> dict[str, str]:
        amount = self.pricing.amount
        return {name: self._of(which, "sum", amount) for name, which in counted.amounts.items()}

    def _of(self, which: Which, function: str, value: str = "") -> str:
        """An aggregate of some of the facts of a group; of a group by a word, nothing or all.

        That is how it costs least: a group is judged once.
        """
        if self._group_tally:
            judged = which.sql(self._group_tally)
            return f"{function}({value})" + (f" * ({judged})" if judged else "")
        condition = which.sql(TALLY)
        if not condition:
            return f"{function}({value})"
        return f"{function}If({', '.join(filter(None, (value, condition)))})"

    @property
    def _group_tally(self) -> str:
        """An expression for the tally that all facts of a group have; empty if they differ."""
        word = next((key.word for key in self.keys if key.word), "")
        return tables.Word.sql(word)[0] if word else ""

    def _unpriced(self, counted: Counted, tally: str) -> str:
        """Whether some fact of a group counts and has no rate; `tally` is empty if they differ."""
        if not tally:
            return f"countIf({self._is_missing(TALLY)} AND {counted.priced.sql(TALLY)}) > 0"
        missing = self._is_missing(tally)
        found = missing if self.pricing.is_by_tally else f"countIf({missing}) > 0"
        return f"{found} AND {counted.priced.sql(tally)}"

    def _is_missing(self, tally: str) -> str:
        return self.pricing.is_missing.replace(TALLY_OF_FACT, tally)

    def _selected(
        self,
        table: str,
        chosen: Sequence[str],
        conditions: Sequence[str],
        *,
        is_grouped: bool = False,
    ) -> str:
        """A SELECT of facts; nothing but a GROUP BY may follow one that `is_grouped`."""
        view = self.bound.view(table, *chosen, *conditions)
        source = view.plainly(conditions) if is_grouped else None
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return f"SELECT {', '.join(chosen)} FROM {source or f'{view}{where}'}"

    def shown(self) -> list[tuple[str, str]]:
        """Expressions over the groups for the id and the label of each key."""
        return [
            (_named(key.shown_id, i), _named(key.shown_label, i)) for i, key in enumerate(self.keys)
        ]

    def _parts(self) -> Iterator[tuple[str, Counted, Sequence[str]]]:
        """Each kind of fact: its table, what it counts for, which of them."""
        conditions = list(asked.conditions(self.query, self.bound))
        clicks, impressions, conversions = measures.counted(asked.statuses(self.query))
        yield tables.CLICKS, clicks, conditions
        yield tables.IMPRESSIONS, impressions, conditions
        yield tables.CONVERSIONS, conversions, [*conditions, "NOT is_scrub"]


def _named(expression: str, index: int) -> str:
    return expression.replace("$id", f"id{index}").replace("$label", f"label{index}_")
