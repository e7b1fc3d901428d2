"""Scenario 65: a run that has ended is taken up again once the cause is gone."""

from __future__ import annotations

import pytest

from tests.conformance.harness import Project

ORDER = """
    import pathlib

    from belugawf import ActivityError, ApplicationError


    def at_work(name: str) -> str:
        key = activity.info().idempotency_key
        note(f"{name} {key}")
        if pathlib.Path(f"{name}.down").exists():
            raise ValueError(f"{name} is down")
        return name


    @activity
    def pay() -> str:
        return at_work("pay")


    @activity
    def ship() -> str:
        return at_work("ship")


    @activity
    def refund() -> str:
        return at_work("refund")


    @workflow
    async def order(ctx: WorkflowContext) -> str:
        return f"{await ctx.execute_activity(pay)}, {await ctx.execute_activity(ship)}"


    @workflow
    async def asks(ctx: WorkflowContext) -> str:
        paid = await ctx.execute_activity(pay)
        answer = await ctx.wait_for_signal("go")
        return f"{paid}, {answer.payload}"


    @workflow
    async def answered(ctx: WorkflowContext) -> str:
        paid = ctx.start_activity(pay)
        try:
            await paid
        except ActivityError:
            answer = await ctx.wait_for_signal("go")
            raise ApplicationError(f"not paid, {answer.payload}")
        answer = await ctx.wait_for_signal("go")
        return f"paid, {answer.payload}"


    @workflow
    async def fan_out(ctx: WorkflowContext) -> list[str]:
        tasks = [ctx.start_activity(one) for one in (pay, ship, refund)]
        done = await asyncio.gather(*tasks, return_exceptions=True)
        for one in done:
            if isinstance(one, BaseException):
                raise one
        return done


    @workflow
    async def compensates(ctx: WorkflowContext) -> str:
        await ctx.execute_activity(pay)
        try:
            return await ctx.execute_activity(ship)
        except ActivityError:
            await ctx.execute_activity(refund)
            raise
"""


@pytest.fixture
def shop(project: Project) -> Project:
    project.write_module(
        "order", "    from belugawf import ActivityError, ApplicationError\n" + ORDER
    )
    return project


def down(project: Project, name: str, is_down: bool = True) -> None:
    """Whether that activity fails from now on."""
    file = project.root / f"{name}.down"
    if is_down:
        file.touch()
    else:
        file.unlink()


def done(project: Project) -> list[str]:
    return [line.split()[0] for line in project.log()]


def test_65_failed(shop: Project) -> None:
    """Finished activities are not repeated, the failed one is, with its key; again if it fails."""
    down(shop, "ship")
    shop.cli("run", "order", "--id", "o", check=3)
    assert "belugawf retry o" in shop.cli("status", "o").out
    told = shop.cli("retry", "o", check=3)
    assert "ship is down" in told.err
    down(shop, "ship", is_down=False)
    shop.cli("retry", "o", "--reason", "the carrier is back", "--by", "ada")
    assert shop.status("o")["result"] == "pay, ship"
    assert done(shop) == ["pay", "ship", "ship", "ship"]
    assert len(set(shop.log())) == 2
    assert shop.cli("result", "o").out == "pay, ship\n"


def test_65_timed_out(shop: Project) -> None:
    """Its deadline is no more."""
    shop.cli("run", "asks", "--id", "a", "--timeout", "4s", "--wait", "--max-wait", "40s", check=5)
    shop.cli("retry", "a")
    shop.cli("signal", "go", "a", "--payload", "1")
    assert shop.finish("a", check=0)["result"] == "pay, 1"
    assert done(shop) == ["pay"]


def test_65_cancelled(shop: Project) -> None:
    """As if nobody had asked for that."""
    shop.cli("run", "asks", "--id", "a")
    shop.cli("cancel", "a")
    assert shop.finish("a", check=None)["status"] == "cancelled"
    shop.cli("retry", "a")
    shop.cli("signal", "go", "a", "--payload", "2")
    assert shop.finish("a", check=0)["result"] == "pay, 2"
    assert done(shop) == ["pay"]


def test_65_refused(shop: Project) -> None:
    """While it runs, when it has completed, and after it was terminated."""
    shop.cli("run", "asks", "--id", "a")
    assert "belugawf" in shop.cli("retry", "a", check=9).err
    shop.cli("terminate", "a", "--yes")
    assert "belugawf rerun a" in shop.cli("retry", "a", check=9).err
    shop.cli("run", "order", "--id", "o")
    assert "completed" in shop.cli("retry", "o", check=9).err


def test_65_fan_out(shop: Project) -> None:
    """What completed after the failure stays; on a server it is done again, and that is said."""
    down(shop, "pay")
    shop.cli("run", "fan_out", "--id", "f", check=3)
    down(shop, "pay", is_down=False)
    shop.cli("retry", "f", "--yes")
    assert shop.finish("f", check=0)["result"] == ["pay", "ship", "refund"]
    if shop.provider.local:
        assert sorted(done(shop)) == ["pay", "pay", "refund", "ship"]


def test_65_a_signal_after_the_failure(shop: Project) -> None:
    """It was read by what is left out, and is there for what follows."""
    down(shop, "pay")
    shop.cli("run", "answered", "--id", "s")
    shop.cli("signal", "go", "s", "--payload", "3")
    assert shop.finish("s", check=None)["status"] == "failed"
    down(shop, "pay", is_down=False)
    failed = next(event for event in shop.history("s") if event["type"] == "ActivityFailed")
    shop.cli("retry", "s", "--from", str(failed["position"]))
    assert shop.finish("s", check=0)["result"] == "paid, 3"


def test_65_compensated(shop: Project) -> None:
    """Money that was given back: it is refused, unless that is said to be right."""
    down(shop, "ship")
    shop.cli("run", "compensates", "--id", "c", check=3)
    refused = shop.cli("retry", "c", check=9)
    assert "refund" in refused.err
    assert "--yes" in refused.err
    assert shop.status("c")["status"] == "failed"
    down(shop, "ship", is_down=False)
    shop.cli("retry", "c", "--yes")
    assert shop.finish("c", check=0)["result"] == "ship"
