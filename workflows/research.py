"""Research a topic, wait for a person's approval, write the report: the tutorial.

Shows retries, a signal that may take a day to arrive, and a result that depends on it. The
activities need no network and no key; put a search or a language model in their place.

    belugawf run research -i "Q4 revenue analysis" --id research-q4
    belugawf waiting
    belugawf signal approval research-q4 --payload true
    belugawf result research-q4

Anything but `true` rejects the findings. When nobody answers within a day, the run fails and says
so. Between the commands no process runs: stop and reboot the machine as you like.
"""

import hashlib
import time

from belugawf import RetryPolicy, WorkflowContext, activity, workflow

SOURCES = (
    "the annual report",
    "a survey of practitioners",
    "three interviews",
    "the public statistics",
    "last year's study",
    "a review of the literature",
)


@activity
def research(topic: str) -> dict[str, object]:
    """Collects findings; the same topic always gives the same ones."""
    time.sleep(0.5)
    digest = hashlib.sha256(topic.encode()).digest()
    first, step = digest[0] % len(SOURCES), 1 + 4 * (digest[1] % 2)
    sources = [SOURCES[(first + step * i) % len(SOURCES)] for i in range(3)]
    return {"topic": topic, "sources": sources, "confidence": 60 + digest[2] % 36}


@activity
def report(findings: dict[str, object]) -> str:
    """Turns findings into a short report in Markdown."""
    topic, sources, confidence = findings["topic"], findings["sources"], findings["confidence"]
    assert isinstance(sources, list)
    evidence = "\n".join(f"{n}. Seen in {source}." for n, source in enumerate(sources, 1))
    return (
        f"# {topic}\n\n"
        f"{len(sources)} sources were read; they agree with a confidence of {confidence} %.\n\n"
        f"{evidence}\n\n"
        "Reviewed and approved."
    )


@workflow(name="research", timeout="48h")
async def research_report(ctx: WorkflowContext, topic: str) -> str:
    """Researches a topic and, once a person has approved the findings, reports on it."""
    findings = await ctx.execute_activity(
        research,
        topic,
        retry=RetryPolicy(max_attempts=3, initial_delay="5s"),
        timeout="10m",
    )
    approval = await ctx.wait_for_signal(
        "approval", timeout="24h", prompt=f"Shall the report on {topic!r} be written?"
    )
    if approval.payload is not True:
        return "Workflow rejected by reviewer."
    return await ctx.execute_activity(report, findings, timeout="5m")
