"""The benchmark of the two graph attentions compares layers that compute the same."""

import re

from benchmarks.graph_attention import main


def test_it_compares_the_same_function(capsys):
    assert main(["--width", "16", "--frames", "3", "--repeats", "1"]) == 0
    printed = capsys.readouterr().out
    assert float(re.search(r"largest difference (\S+)", printed)[1]) < 1e-5
    assert printed.count("ratio") == 2
