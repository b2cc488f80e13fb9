//! Stage 5 of 5, report: plain numbers to the metric families of the prometheus crate.
//!
//! Knows no metric by name. Escaping and the text format are the crate's.

use super::names::{Desc, Kind};
use crate::report::snapshot::{Histogram, LATENCY_BOUNDS};
use prometheus::proto;

/// One metric family being filled; each sample is its label values, in the order of `labels`, and a number.
pub(super) struct Family<'a> {
    into: &'a mut Vec<proto::MetricFamily>,
    desc: Desc,
    labels: &'a [&'static str],
    samples: Vec<proto::Metric>,
}

impl<'a> Family<'a> {
    pub(super) fn new(
        into: &'a mut Vec<proto::MetricFamily>,
        desc: Desc,
        labels: &'a [&'static str],
    ) -> Self {
        Self { into, desc, labels, samples: Vec::new() }
    }

    /// Adds a sample of a counter or gauge.
    pub(super) fn sample(&mut self, values: &[&str], number: f64) {
        let mut metric = proto::Metric::from_label(self.pairs(values));
        match self.desc.kind {
            Kind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(number);
                metric.set_counter(counter);
            }
            Kind::Gauge | Kind::Histogram => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(number);
                metric.set_gauge(gauge);
            }
        }
        self.samples.push(metric);
    }

    /// Adds a histogram.
    pub(super) fn histogram(&mut self, histogram: &Histogram) {
        let mut total = 0;
        let mut buckets = Vec::with_capacity(LATENCY_BOUNDS.len());
        for (count, bound) in histogram.buckets.iter().zip(LATENCY_BOUNDS) {
            total += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_cumulative_count(total);
            bucket.set_upper_bound(bound);
            buckets.push(bucket);
        }
        let mut value = proto::Histogram::default();
        value.set_bucket(buckets);
        value.set_sample_count(histogram.count());
        value.set_sample_sum(histogram.sum);
        let mut metric = proto::Metric::default();
        metric.set_histogram(value);
        self.samples.push(metric);
    }

    fn pairs(&self, values: &[&str]) -> Vec<proto::LabelPair> {
        let pair = |(name, value): (&&'static str, &&str)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        self.labels.iter().zip(values).map(pair).collect()
    }
}

impl Drop for Family<'_> {
    /// A family without a sample is left out: the format has nothing to say about it.
    fn drop(&mut self) {
        if self.samples.is_empty() {
            return;
        }
        let mut family = proto::MetricFamily::default();
        family.set_name(self.desc.name.to_owned());
        family.set_help(self.desc.help.to_owned());
        family.set_field_type(match self.desc.kind {
            Kind::Counter => proto::MetricType::COUNTER,
            Kind::Gauge => proto::MetricType::GAUGE,
            Kind::Histogram => proto::MetricType::HISTOGRAM,
        });
        family.set_metric(std::mem::take(&mut self.samples));
        self.into.push(family);
    }
}
