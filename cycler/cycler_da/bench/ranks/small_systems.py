"""Ranks in systems of few variables: double well, Lorenz-63 and Lorenz-96."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cycler_da.bench.ranks.size import OURS, SPIN_UP, Ranked, Size, ranks_of
from cycler_da.bench.small_systems import double_well as well
from cycler_da.bench.small_systems import lorenz63_cycled, lorenz96_cases, lorenz96_cycles

#: Lorenz-96 case -> radius and inflation of the LETKF with the true model and of the interpolant filter, as chosen in
#: the table of the benchmark `lorenz96_filters`.
CHOSEN = {
    "no noise, 40 observed, 20 members": ((13.0, 1.0), (10.0, 1.0)),
    "no noise, 20 observed, 20 members": ((8.0, 1.0), (10.0, 1.0)),
    "noise 0.3, 40 observed, 20 members": ((3.0, 1.04), (3.0, 1.1)),
    "noise 0.3, 20 observed, 20 members": ((4.0, 1.07), (4.0, 1.04)),
    "every 5 steps, 40 observed, 40 members": ((8.0, 1.02), (10.0, 1.1)),
    "every 5 steps, 20 observed, 40 members": ((10.0, 1.02), (13.0, 1.0)),
}


def double_well(size: Size) -> Iterator[Ranked]:
    """Both errors of observation."""
    names = {
        "interpolant filter, 100, learned": OURS,
        "particle filter, 100, true model": "particle filter, true model",
    }
    for case, error in well.ERRORS.items():
        twin = well.make_case(error, n_trials=size.trials, n_cycles=SPIN_UP + size.cycles)
        chosen = {names[method.name]: method for method in well.methods() if method.name in names}
        counts = {
            name: [ranks_of([sums]) for sums in well.run_method(twin, method, spin_up=SPIN_UP)[0]]
            for name, method in chosen.items()
        }
        yield Ranked(f"double well, {case}", counts)


def lorenz63(size: Size) -> Iterator[Ranked]:
    """All networks."""
    names = {
        "interpolant filter, 128, learned": OURS,
        "particle filter, 128, true model": "particle filter, true model",
    }
    amount = replace(lorenz63_cycled.FULL, n_trials=size.trials, n_cycles=SPIN_UP + size.cycles, n_spin_up=SPIN_UP)
    for case in lorenz63_cycled.cases():
        counts = {}
        for method in lorenz63_cycled.methods(case):
            if method.name in names:
                blocks, _ = lorenz63_cycled.run_method(case, method, amount, seed=lorenz63_cycled.SEED)
                each = len(blocks) // size.trials  # blocks of a trial stand together
                trials = [blocks[i : i + each] for i in range(0, len(blocks), each)]
                counts[names[method.name]] = [ranks_of(trial) for trial in trials]
        yield Ranked(f"Lorenz-63, {case.name}", counts)


def lorenz96(size: Size) -> Iterator[Ranked]:
    """All settings."""
    amount = lorenz96_cycles.Size(size.trials, SPIN_UP, size.cycles)
    candidates = {one.name: one for one in lorenz96_cases.CANDIDATES}
    for case in lorenz96_cases.CASES:
        transition = lorenz96_cycles.load_ring_transition(case.weights)
        counts = {}
        for name, (radius, inflation) in zip(
            (lorenz96_cases.REFERENCE, lorenz96_cases.OURS), CHOSEN[case.name], strict=True
        ):
            numbers = [lorenz96_cases.Numbers(radius, inflation)] * size.trials
            outcome = lorenz96_cycles.run(
                case, candidates[name], transition, amount, seed=lorenz96_cases.SEED, numbers=numbers
            )
            shown = OURS if name == lorenz96_cases.OURS else name
            counts[shown] = [ranks_of([sums]) for sums in outcome.sums]
        yield Ranked(f"Lorenz-96, {case.name}", counts)
