"""LangGraph with its SQLite checkpointer, which sets WAL; `synchronous` stays FULL.

`durability="sync"`, so that a step's checkpoint is on disk before the next step begins (the
default, "async", writes it beside the next step).

"list": a graph whose node appends to a list in the state; each superstep is two commits, the
node's writes and a checkpoint with the whole list. "delta": the same list in a `DeltaChannel`
(beta), which writes what was added, and the whole list every 100th time. "tasks": `@entrypoint`
and `@task`; a task's result is one commit, made in the background: the next task does not wait.

Steps in parallel are nodes sent to with `Send`, or tasks, with one commit each. Plain functions
for one run, as they were quicker; many runs are `batch` for graphs, and `ainvoke` side by side for
tasks.
"""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from benchmarks.peers.child import Workload, main

DURABILITY = 'WAL (its checkpointer sets it), synchronous FULL (default), durability="sync"'
SYNC: dict[str, Any] = {"durability": "sync"}


def extended(state: list[int], writes: Sequence[list[int]]) -> list[int]:
    return [*state, *(number for write in writes for number in write)]


def config(name: str, steps: int) -> dict[str, Any]:
    return {"configurable": {"thread_id": name}, "recursion_limit": steps + 5}


class Listed(TypedDict):
    left: int
    results: Annotated[list[int], operator.add]


class Delta(TypedDict):
    left: int
    results: Annotated[list[int], DeltaChannel(extended)]


def in_sequence(state: type, saver: SqliteSaver) -> Any:
    graph = StateGraph(state)
    graph.add_node("step", lambda s: {"left": s["left"] - 1, "results": [s["left"]]})
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda s: "step" if s["left"] else END)
    return graph.compile(checkpointer=saver)


def in_parallel(state: type, saver: SqliteSaver) -> Any:
    graph = StateGraph(state)
    graph.add_node("step", lambda s: {"results": [s["number"]]})
    graph.add_conditional_edges(
        START, lambda s: [Send("step", {"number": number}) for number in range(s["left"])]
    )
    graph.add_edge("step", END)
    return graph.compile(checkpointer=saver)


def graphs(root: Path, workload: Workload) -> float:
    state = {"list": Listed, "delta": Delta}[workload.variant]
    with SqliteSaver.from_conn_string(str(root / "graph.db")) as saver:
        graph = (in_parallel if workload.parallel else in_sequence)(state, saver)
        graph.invoke({"left": 5, "results": []}, config("warm", 5), **SYNC)
        begun = {"left": workload.each, "results": []}
        configs = [config(str(number), workload.each) for number in range(workload.runs)]
        began = time.perf_counter()
        results = graph.batch([begun] * workload.runs, configs, **SYNC)
        seconds = time.perf_counter() - began
    assert all(len(result["results"]) == workload.each for result in results)
    return seconds


def tasks(root: Path, workload: Workload) -> float:
    """One run of plain tasks."""
    with SqliteSaver.from_conn_string(str(root / "tasks.db")) as saver:

        @task
        def step(number: int) -> int:
            return number

        @entrypoint(checkpointer=saver)
        def sequence(count: int) -> int:
            for number in range(count):
                step(number).result()
            return count

        @entrypoint(checkpointer=saver)
        def parallel(count: int) -> int:
            for future in [step(number) for number in range(count)]:
                future.result()
            return count

        function = parallel if workload.parallel else sequence
        function.invoke(5, config("warm", 5), **SYNC)
        began = time.perf_counter()
        assert function.invoke(workload.each, config("a", 5), **SYNC) == workload.each
        return time.perf_counter() - began


async def many(root: Path, workload: Workload) -> float:
    """Many runs of async tasks."""
    async with AsyncSqliteSaver.from_conn_string(str(root / "tasks.db")) as saver:

        @task
        async def step(number: int) -> int:
            return number

        @entrypoint(checkpointer=saver)
        async def sequence(count: int) -> int:
            for number in range(count):
                await step(number)
            return count

        await sequence.ainvoke(5, config("warm", 5), **SYNC)
        began = time.perf_counter()
        await asyncio.gather(
            *(
                sequence.ainvoke(workload.each, config(str(number), 5), **SYNC)
                for number in range(workload.runs)
            )
        )
        return time.perf_counter() - began


def measured(root: Path, workload: Workload) -> tuple[float, str]:
    if workload.variant != "tasks":
        return graphs(root, workload), DURABILITY
    one = workload.runs == 1
    seconds = tasks(root, workload) if one else asyncio.run(many(root, workload))
    return seconds, f"{DURABILITY}; a task does not wait for the result of the one before it"


if __name__ == "__main__":
    main(measured, ["langgraph", "langgraph-checkpoint-sqlite"])
