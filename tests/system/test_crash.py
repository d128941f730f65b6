"""The short form of ``make test-crash``: real agents, killed and started again and again."""

import os

import pytest

from tests.rigs.crash.campaign import Campaign


@pytest.mark.timeout(300)
@pytest.mark.needs("mosquitto", "mosquitto_sub")
def test_no_kill_costs_an_acknowledged_message_or_one_older_than_the_flush_interval(
    tmp_path, free_port, record_property
):
    kills = int(os.environ.get("MILEPOST_KILLS", "10"))
    verdict, _ = Campaign(
        tmp_path,
        kills=kills,
        vehicles=2,
        seed=os.environ.get("MILEPOST_CRASH_SEED", "short"),
        broker_port=free_port(),
        load=False,
        tell=print,
        # a machine that runs the other tests beside this may stop a process for a while
        slack_s=2.0,
    ).run()
    record_property("verdict", str(verdict))
    assert verdict.faults == []
    assert verdict.kills == kills
    assert verdict.created_messages >= verdict.distinct_messages > 10 * kills
