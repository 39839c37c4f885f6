"""What a drill passes on of a command's words: one line, and nothing of the machine it ran on."""

from __future__ import annotations

from cycler_da.drills.system import Result


def test_the_end_of_the_words_names_no_folder_of_the_machine():
    said = "progress   1/3 \n\nERROR: no marker in /somewhere/cycler-drills-ab1_/tmpx9/store/tiny; run the stage\n\n"
    assert Result(65, said).end == "progress 1/3 | ERROR: no marker in DRILL/store/tiny; run the stage"


def test_no_words_have_an_empty_end():
    assert Result(0, "\n").end == ""
