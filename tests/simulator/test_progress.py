from simulator.progress import ProgressBars


def test_nothing_is_drawn_when_stderr_is_no_terminal(capsys):
    with ProgressBars() as bars:
        bars.track("GPS", lambda: 0.5)
        bars.refresh()
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_each_bar_shows_how_far_its_thing_is(capsys):
    with ProgressBars(enabled=True) as bars:
        bars.track("GPS", lambda: 0.5, lambda: "12 fixes")
        bars.track("CAN", lambda: 1.0)
        bars.refresh()
    out, err = capsys.readouterr()
    assert out == "", "stdout is for what scripts read"
    assert "GPS" in err
    assert "50%" in err
    assert "12 fixes" in err
    assert "100%" in err
