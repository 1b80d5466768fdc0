"""What SLURM says of jobs: squeue for those it still has, sacct for those it had."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace

from launch import status
from launch.requests import OUT_OF_MEMORY, TIME_LIMIT
from launch.status import Standing
from lion_sweep.errors import UserError

PATIENCE_SECONDS = 30
USUAL_ARRAY = 1001  # SLURM's own default

# SLURM's names of states -> ours, and what kind of failure it is.
ACTIVE = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "CONFIGURING"}
WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
FAILURES = {
    "OUT_OF_MEMORY": OUT_OF_MEMORY,
    "TIMEOUT": TIME_LIMIT,
    "DEADLINE": TIME_LIMIT,
    "NODE_FAIL": "node failure",
    "BOOT_FAIL": "node failure",
    "PREEMPTED": "preempted",
}
OUT_OF_SERVICE = {"down", "drain", "drng", "fail", "failg", "inval", "unk", "npc"}  # of nodes
# A pending job with one of these reasons waits for something that will not come by itself.
HELD = "is held, until somebody says scontrol release {job}"
HOPELESS = {
    "PartitionTimeLimit": "asks for more time than its partition allows: lower site.time_limit",
    "DependencyNeverSatisfied": "what it needs has failed",
    "JobHeldUser": HELD,
    "JobHeldAdmin": HELD,
}


class SlurmError(UserError):
    """SLURM did not do what it was asked to; the message holds what it said."""


def ask(*command: str) -> str:
    """Standard output of a SLURM command. Raises `SlurmError` with what it said instead."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    except FileNotFoundError:
        raise SlurmError(
            f"{command[0]} is not on this machine: run this on a login node."
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(
            f"{command[0]} gave no answer within {PATIENCE_SECONDS} s: SLURM is busy or down; "
            "jobs are not affected, give the command again later."
        ) from None
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        raise SlurmError(f"{command[0]} failed: {said}")
    return done.stdout


def standing(name: str, reason: str = "", nodes: str = "") -> Standing:
    """SLURM's name of a state, its reason or exit code, and the job's nodes, in our words."""
    why = "" if reason == "None" else reason
    if name in ACTIVE:
        return Standing(status.RUNNING, nodes)
    if name in WAITING:
        return Standing(status.QUEUED, HOPELESS.get(why, why))
    if name == "COMPLETED":
        return Standing(status.FINISHED, "the job ended, but left no result")
    if name == "CANCELLED":
        return Standing(status.CANCELLED)  # the reason is why it waited before
    said = f"SLURM says {name} {reason}".rstrip()
    return Standing(status.FAILED, said, FAILURES.get(name, ""))


def job_states(jobs: Iterable[str]) -> dict[str, Standing]:
    """States of jobs, elements of an array as in 123_4, without those that SLURM has forgotten."""
    wanted = set(jobs)
    if not wanted:
        return {}
    rows: dict[str, Standing] = {}
    for line in ask("squeue", "--me", "-h", "-r", "-t", "all", "-o", "%i|%T|%r|%N").splitlines():
        job, state, reason, nodes = line.split("|")
        told = standing(state, reason, nodes)
        rows[job] = replace(told, reason=told.reason.replace("{job}", job))
    found = _chosen(wanted, rows)
    missing = wanted - set(found)
    return found | _accounted(missing) if missing else found


def _chosen(wanted: set[str], rows: dict[str, Standing]) -> dict[str, Standing]:
    """Of the rows, those of some jobs.

    Elements of an array that ended before they began have one row together: squeue's 123, sacct's
    123_[0-5].
    """
    rows = {job.split("_[")[0]: row for job, row in rows.items()}
    found = {job: rows.get(job) or rows.get(job.split("_")[0]) for job in wanted}
    return {job: row for job, row in found.items() if row}


def _accounted(jobs: set[str]) -> dict[str, Standing]:
    """Jobs that only the accounting remembers; where there is none, nothing."""
    if shutil.which("sacct") is None:
        return {}
    arrays = ",".join(sorted({job.split("_")[0] for job in jobs}))
    columns = "--format=JobID,State,ExitCode,NodeList"
    try:
        table = ask("sacct", "-n", "-P", "-X", "-j", arrays, columns)
    except SlurmError as error:
        if "accounting storage is disabled" in str(error).lower():
            return {}
        raise
    rows = {}
    for line in table.splitlines():
        job, state, code, nodes = line.split("|")
        rows[job] = standing(state.split()[0], code, nodes)
    return _chosen(jobs, rows)


def jobs_with(token: str) -> list[str]:
    """Ids of the jobs and arrays which have not ended and whose comment begins with the token."""
    rows = (row.split("|", 1) for row in ask("squeue", "--me", "-h", "-o", "%F|%k").splitlines())
    return sorted({job for job, comment in rows if comment.startswith(token)})


def array_size() -> int:
    """How many elements an array may have, where SLURM says so."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
    return max(1, int(found[1])) if found else USUAL_ARRAY


def partitions() -> dict[str, dict[str, str]]:
    """What scontrol says of each partition, by name."""
    lines = ask("scontrol", "-o", "show", "partition").splitlines()
    rows = (dict(w.split("=", 1) for w in line.split() if "=" in w) for line in lines)
    return {row["PartitionName"]: row for row in rows}


def partition_of(name: str | None) -> dict[str, str]:
    """Of this partition, or of the default one. Raises `SlurmError` where there is no such one.

    Of several, which SLURM chooses from, nothing.
    """
    known = partitions()
    if name is None:
        return next((row for row in known.values() if row.get("Default") == "YES"), {})
    for part in name.split(","):
        if part not in known:
            raise SlurmError(
                f"site.slurm.partition={name}: SLURM has no partition {part}; it has "
                f"{', '.join(sorted(known))}."
            )
    return known.get(name, {})


def in_service(partition: dict[str, str]) -> bool:
    """Whether one of its nodes, or of all where it has no name, takes jobs."""
    of_it = ["-p", partition["PartitionName"]] if partition else []
    states = ask("sinfo", "-h", "-o", "%t", *of_it).split()
    return any(state.rstrip("*~#!%$@^-") not in OUT_OF_SERVICE for state in states)


def limits(partition: dict[str, str]) -> tuple[float | None, float | None]:
    """Hours that a job gets which asks for none, and the most that it may ask for; None: any.

    SLURM itself takes jobs that ask for more, and leaves them pending for ever.
    """
    longest = _hours(partition.get("MaxTime", "UNLIMITED"))
    usual = partition.get("DefaultTime", "NONE")
    return longest if usual == "NONE" else _hours(usual), longest


def _hours(text: str) -> float | None:
    """Hours of SLURM's DAYS-HOURS:MINUTES:SECONDS; None of UNLIMITED."""
    if text in ("UNLIMITED", "INFINITE"):
        return None
    days, _, rest = text.rpartition("-")
    hours, minutes, seconds = map(int, rest.split(":"))
    return int(days or 0) * 24 + hours + minutes / 60 + seconds / 3600


def cancel(jobs: list[str]) -> None:
    """scancel; jobs that have ended already are no error."""
    if jobs:
        ask("scancel", *jobs)
