import unittest

from rota import render


class RenderTest(unittest.TestCase):
    def test_columns_are_aligned_and_numbers_stand_right(self):
        text = render([("Ada", "7.5", "ward 3"), ("Grace", "12", "desk")], header=("who", "hours", "where"))
        self.assertEqual(
            text.splitlines(),
            ["who    hours  where", "-----  -----  ------", "Ada      7.5  ward 3", "Grace     12  desk"],
        )

    def test_short_rows_are_filled_up(self):
        self.assertEqual(render([("a",), ("b", "c")]), "a\nb  c")

    def test_the_last_column_gives_way(self):
        self.assertEqual(render([("night", "intensive care")], width=14), "night  intens…")

    def test_what_fits_exactly_is_not_cut(self):
        self.assertEqual(render([("night", "ward 3")], width=13), "night  ward 3")

    def test_no_rows_are_no_text(self):
        self.assertEqual(render([]), "")
