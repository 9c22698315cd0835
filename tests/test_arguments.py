"""The command line: defaults of each script, the field's flags, and one clear line for what cannot be meant."""

import json
from dataclasses import fields

import pytest

from common.arguments import H36M_CPN, H36M_GT, MPI_INF_3DHP, PRESETS, Options, parse_options
from common.errors import UsageError


def parse(*argv, defaults=H36M_CPN):
    return parse_options(argv, defaults, "")


def test_defaults_are_the_published_recipe():
    options = parse()
    assert (options.dataset, options.keypoints) == ("h36m", "cpn_ft_h36m_dbb")
    assert (options.width, options.depth, options.num_frames, options.stride) == (512, 8, 243, 243)
    assert (options.batch_size, options.batch_windows, options.epochs) == (1024, 4, 100)
    assert (options.learning_rate, options.lr_decay, options.timestep, options.scale) == (6e-5, 0.993, 1000, 1.0)
    assert (options.sampling_timesteps, options.num_proposals, options.checkpoint_frequency) == (1, 1, 20)
    assert (options.text_encoder, options.action_prompt, options.text_dropout) == ("clip", "given", 0.1)
    assert parse(defaults=H36M_GT).keypoints == "gt"


def test_the_published_commands_parse():
    train = "-d h36m -k cpn_ft_h36m_dbb -str S1,S5,S6,S7,S8 -ste S9,S11 -c checkpoint/model_h36m_cpn -gpu 0 -lrd 0.998"
    options = parse(*train.split(), "--nolog", "-e", "100")
    assert options.subjects_train == ("S1", "S5", "S6", "S7", "S8")
    assert options.trains
    evaluate = "--evaluate best_epoch_1_1.bin --p2 -sampling_timesteps 10 -num_proposals 20 -b 4 -s 1 -f 1 -gpu 0,1"
    options = parse(*evaluate.split())
    assert (options.num_proposals, options.sampling_timesteps, options.num_frames) == (20, 10, 1)
    assert not options.trains
    train = "-d 3dhp -c checkpoint/mpi_1_lr7e-5_lrd0.995 -gpu 0,1 --nolog -lrd 0.995 -lr 0.00007 -e 120"
    options = parse(*train.split(), defaults=MPI_INF_3DHP)
    assert (options.dataset, options.keypoints, options.learning_rate, options.trains) == ("3dhp", "ori", 7e-5, True)
    evaluate = "-c checkpoint/mpi_1_lr7e-5_lrd0.995 -gpu 0,1 --nolog --evaluate best_epoch_1_1.bin -b 4"
    assert not parse(
        *evaluate.split(), "-num_proposals", "20", "-sampling_timesteps", "10", defaults=MPI_INF_3DHP
    ).trains


def test_a_preset_gives_way_to_what_is_given():
    options = parse("--preset", "demo", "-e", "2")
    assert options.dataset == "sample"
    assert options.epochs == 2
    assert options.given == {"epochs"}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_name_options(name):
    assert set(PRESETS[name]) <= {entry.name for entry in fields(Options)}
    parse("--preset", name)


@pytest.mark.parametrize("flag", ["-k", "-c", "-l", "--data-dir", "--evaluate", "--resume", "--clip-weights"])
def test_empty_names(flag):
    shown = {"--resume": "-r"}.get(flag, flag)
    with pytest.raises(UsageError, match=f"{shown} is empty"):
        parse(flag, "")


def test_lists_hold_a_name_once_and_a_star_is_all():
    options = parse("-ste", "S9,S11,S9", "-a", "Walk,*")
    assert (options.subjects_test, options.actions) == (("S9", "S11"), ("*",))


def test_every_option_has_help():
    for entry in fields(Options):
        assert not entry.metadata or entry.metadata["help"], entry.name


def test_options_are_plain_data():
    data = json.loads(json.dumps(parse("-str", "S1,S5").as_data()))
    assert data["subjects_train"] == ["S1", "S5"]
    assert "given" not in data


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("-b 100 -s 243", "-b 100 is smaller than -s 243"),
        ("-sampling_timesteps 20 -timestep 10", "-sampling_timesteps 20 is more than -timestep 10"),
        ("--resume a --evaluate b", "--resume with --evaluate"),
        ("-d moon", "invalid choice: 'moon'"),
        ("-e many", "invalid int value: 'many'"),
        ("--no-such-option", "unrecognized arguments"),
        ("-e 0", "-e is 0; expected 1 or more"),
        ("-f 0", "-f is 0"),
        ("--downsample 0", "--downsample is 0"),
        ("--subset 0", "--subset is 0.0"),
        ("--subset nan", "--subset is nan"),
        ("-lr 0", "-lr is 0.0"),
        ("-lr nan", "-lr is nan"),
        ("-drop 1", "-drop is 1.0"),
        ("--text-dropout 2", "--text-dropout is 2.0"),
        ("--render", "--render draws a trained network's prediction"),
        ("--render --evaluate a", "--viz-output"),
        ("--evaluate a --viz-output a.png", "--viz-output would do nothing here: --render is not given"),
        ("--viz-size 3 --viz-limit 2", "--viz-(size|limit), --viz-(size|limit) would do nothing"),
        (
            "--evaluate a --val-subjects S8 --subset 0.1",
            "--val-subjects, --subset would do nothing here: nothing is tr",
        ),
        ("--evaluate a --no-eval", "--no-eval would do nothing"),
        ("--evaluate a --export-training-curves", "--export-training-curves would do nothing"),
        ("--val-subjects ,", "--val-subjects takes names by commas; it is empty"),
        ("--render --evaluate a --viz-output a.gif --viz-limit 0", "--viz-limit is 0; expected 1 or more, or -1"),
        ("--render --evaluate a --viz-output a.gif --p2", "--p2 would do nothing here: no error is measured"),
        ("-d custom --evaluate a --by-subject", "--by-subject would do nothing"),
        ("-f 99999999999999999999", "-f is 99999999999999999999; expected 9007199254740992 or less"),
        ("--evaluate a --render --viz-output a.gif --viz-size 100", "--viz-size is 100; expected 40 or less"),
        ("--evaluate a --warmup 3 -cf 1 -no-da --text-dropout 0 -l x", "-cf.*-no-da.* would do nothing here"),
        ("--nolog -l x", "--nolog with -l"),
        ("-gpu 0,,1", "-gpu is '0,,1'; expected device numbers"),
        ("-gpu x", "-gpu is 'x'"),
        ("-eta 1.5", "-eta is 1.5; expected 0"),
        ("-eta nan", "-eta is nan"),
        ("-eta 0 --solver dpm..2m", "invalid choice"),
        ("-eta 0 --solver dpm++2m", "-eta with --solver"),
        ("--no-eval --val-subjects S8", "--no-eval with --val-subjects"),
        ("--clip-weights f --text-encoder random", "--clip-weights with --text-encoder random"),
    ],
)
def test_what_cannot_be_meant(argv, expected):
    with pytest.raises(UsageError, match=expected) as caught:
        parse(*argv.split())
    assert "\n" not in str(caught.value)
