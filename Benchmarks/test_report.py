"""Medians, ratios and targets, of made-up rounds: python3 -m unittest discover Benchmarks"""

import unittest
import xml.etree.ElementTree

import chart
import report
from report import Row

ROUNDS = {
    "bulk-1": {
        "direct": [{"round": 1, "gbit_per_s": 30.0, "cpu_s_per_gb": 0.0}, {"round": 2, "gbit_per_s": 10.0, "cpu_s_per_gb": 0.0}],
        "envoy": [{"round": 1, "gbit_per_s": 4.0, "cpu_s_per_gb": 2.0}, {"round": 2, "gbit_per_s": 8.0, "cpu_s_per_gb": 1.0}],
        "ours": [
            {"round": 1, "gbit_per_s": 12.0, "cpu_s_per_gb": 1.0}, {"round": 2, "gbit_per_s": 6.0, "cpu_s_per_gb": 1.2},
            {"round": 3, "gbit_per_s": 9.0, "cpu_s_per_gb": 1.1}],
    },
    "requests-1": {
        "direct": [{"round": 1, "p50_us": 20.0}], "envoy": [{"round": 1, "p50_us": 120.0}], "ours": [{"round": 1, "p50_us": 60.0}]},
}
BULK = Row("1 stream", "bulk-1", "gbit_per_s", "Gbit/s", 2, ("envoy", "≥", 1.5))
CPU = Row("CPU", "bulk-1", "cpu_s_per_gb", "s/GB", 2, ("envoy", "≤", 0.7))
ADDED = Row("added", "requests-1", "added_p50_us", "µs", 0, ("envoy", "≤", 0.5))
DOCUMENT = {
    "machine": {"cpu": "CPU <1>", "cores": 2, "kernel": "6", "openssl": "3", "envoy": "1", "haproxy": "2"},
    "options": {"rounds": 2, "seconds": 1}, "notes": ["something"], "results": ROUNDS}


class ReportTests(unittest.TestCase):
    def test_the_ratio_is_that_of_the_medians(self):
        self.assertEqual(report.medians(ROUNDS, BULK), {"direct": 20.0, "envoy": 6.0, "ours": 9.0})
        self.assertEqual(report.ratio(report.medians(ROUNDS, BULK), "envoy"), 1.5)

    def test_a_direct_connection_has_no_proxy_and_no_cpu_figure(self):
        self.assertEqual(set(report.medians(ROUNDS, CPU)), {"envoy", "ours"})

    def test_the_range_pairs_measurements_of_the_same_round(self):
        self.assertEqual(report.ratio_range(ROUNDS, BULK, "envoy"), (0.75, 3.0))
        self.assertIsNone(report.ratio_range(ROUNDS, ADDED, "envoy"))

    def test_added_latency_is_what_is_above_direct(self):
        self.assertEqual(report.medians(ROUNDS, ADDED), {"envoy": 100.0, "ours": 40.0})
        self.assertEqual(report.judged(report.medians(ROUNDS, ADDED), ADDED.target), (0.4, True))

    def test_a_target_is_met_at_its_bound_and_missed_beyond(self):
        self.assertEqual(report.judged({"ours": 9.0, "envoy": 6.0}, BULK.target), (1.5, True))
        self.assertEqual(report.judged({"ours": 8.9, "envoy": 6.0}, BULK.target)[1], False)
        self.assertEqual(report.judged({"ours": 12.1}, ("value", "≤", 12.0)), (12.1, False))

    def test_a_target_without_its_counterpart_is_not_judged(self):
        self.assertIsNone(report.judged({"ours": 9.0}, BULK.target))
        self.assertIsNone(report.judged({"envoy": 9.0}, BULK.target))

    def test_the_table_has_a_mark_for_each_target(self):
        text = report.table(DOCUMENT)
        self.assertIn("2 of 3 targets met", text)
        self.assertRegex(text, r"1 stream +Gbit/s +20\.00 +6\.00 +9\.00 +1\.50x +0\.75–3\.00 +0\.45x +≥ 1\.5x Envoy +✔")
        self.assertIn("Note: something.", text)

    def test_the_chart_is_well_formed_and_escaped(self):
        drawing = chart.draw(DOCUMENT)
        xml.etree.ElementTree.fromstring(drawing)
        self.assertIn("CPU &lt;1&gt;", drawing)


if __name__ == "__main__":
    unittest.main()
