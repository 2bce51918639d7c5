from ipu_train.ipumodel import Settings, Target, advise, out_of_memory_message, plan, trace

from .nets import images, small_net

TINY = Target.named("mk2").__class__(**{**vars(Target.named("mk2")), "bytes_per_tile": 60_000})


def net_program(batch, stages):
    splits = {1: (), 2: ("layer1.2",)}.get(stages)
    return None if splits is None else trace(small_net(4, 32), images(batch, 64), splits=splits)


def test_the_three_changes_that_help_most_come_with_their_effect():
    settings = Settings(gradient_accumulation=2)
    program = net_program(32, 1)
    report = plan(program, TINY, settings)
    assert not report.fits
    changes = advise(program, TINY, settings, net_program)
    assert len(changes) == 3
    assert all(c.report.worst_tile_bytes < report.worst_tile_bytes for c in changes)
    unfit = [c.report.worst_tile_bytes for c in changes if not c.fits]
    assert unfit == sorted(unfit)
    assert [c.fits for c in changes] == sorted((c.fits for c in changes), reverse=True)


def test_a_smaller_micro_batch_keeps_the_global_batch():
    changes = advise(net_program(32, 1), TINY, Settings(gradient_accumulation=2), net_program, count=10)
    smaller = next(c for c in changes if c.what.startswith("micro_batch_size"))
    assert smaller.report.micro_batch_size * smaller.report.settings.gradient_accumulation == 64


def test_the_message_says_where_why_and_what_next():
    settings = Settings()
    program = net_program(32, 1)
    report = plan(program, TINY, settings)
    text = out_of_memory_message(report, advise(program, TINY, settings))
    assert "tiles only have 60,000" in text
    assert "IPU 0" in text and "MB of activation" in text
    assert "What would help most (predicted):" in text and "images/s" in text


def test_what_fits_needs_no_message():
    report = plan(net_program(1, 1), Target.named("mk2"))
    assert report.fits and out_of_memory_message(report) == ""
