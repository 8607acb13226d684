//! What is printed: times and counts of all rounds, by load and system.
//!
//! Promises: p50 and p99 are of all deliveries of all rounds; a ratio is the median of the rounds' own ratios, so that a
//! busy minute, which hits all systems of a round, does not shift it.
//! Not here: measuring.

use std::time::Duration;

use crate::counts::Counts;
use crate::loads::Load;
use crate::worker::Sample;

/// What one system did under one load in one round.
struct Cell {
    system: &'static str,
    load: Load,
    sample: Sample,
    counts: Counts,
}

/// All rounds.
#[derive(Default)]
pub(crate) struct Results(Vec<Cell>);

impl Results {
    pub(crate) fn add(&mut self, system: &'static str, load: Load, sample: Sample, counts: Counts) {
        self.0.push(Cell {
            system,
            load,
            sample,
            counts,
        });
    }

    fn cells(&self, system: &str, load: Load) -> Vec<&Cell> {
        let wanted = |cell: &&Cell| cell.system == system && cell.load == load;
        self.0.iter().filter(wanted).collect()
    }

    /// Times of `loads`, each with every system that was asked for it.
    pub(crate) fn print_times(&self, title: &str, loads: &[Load], systems: &[&'static str]) {
        println!("\n{title}\n");
        println!("| load | system | p50 us | p99 us | deliveries/s | p50 / ext4 | p50 / gluster |");
        println!("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
        for load in loads {
            for system in systems {
                let cells = self.cells(system, *load);
                if cells.is_empty() {
                    continue;
                }
                let mut nanos: Vec<u64> = cells.iter().flat_map(|c| c.sample.nanos.iter().copied()).collect();
                nanos.sort_unstable();
                let wall: Duration = cells.iter().map(|c| c.sample.wall).sum();
                println!(
                    "| {} | {system} | {} | {} | {:.0} | {} | {} |",
                    load.name(),
                    percentile(&nanos, 50) / 1000,
                    percentile(&nanos, 99) / 1000,
                    nanos.len() as f64 / wall.as_secs_f64(),
                    self.ratio(system, "ext4", *load),
                    self.ratio(system, "gluster", *load),
                );
            }
        }
    }

    /// Median over the rounds of this system's p50 divided by the other's.
    fn ratio(&self, system: &str, other: &str, load: Load) -> String {
        let (own, others) = (self.cells(system, load), self.cells(other, load));
        let mut all: Vec<f64> = own.iter().zip(others).map(|(a, b)| p50(a) / p50(b)).collect();
        if system == other || all.is_empty() {
            return "-".to_owned();
        }
        all.sort_unstable_by(f64::total_cmp);
        format!("{:.2}", all[all.len() / 2])
    }

    /// Counts for each delivery.
    pub(crate) fn print_counts(&self, system: &str, loads: &[Load]) {
        let Some(first) = self.0.iter().find(|cell| cell.system == system) else {
            return;
        };
        println!("\n{system}, counted for each delivery\n");
        let names: Vec<&str> = first.counts.iter().map(|(name, _)| name.as_str()).collect();
        println!("| load | {} |", names.join(" | "));
        println!("| --- |{}", " ---: |".repeat(names.len()));
        for load in loads {
            let cells = self.cells(system, *load);
            let deliveries: usize = cells.iter().map(|c| c.sample.nanos.len()).sum();
            if deliveries == 0 {
                continue;
            }
            let each = (0..names.len()).map(|i| {
                let sum: u64 = cells.iter().map(|c| c.counts[i].1).sum();
                format!(" {:.2} |", sum as f64 / deliveries as f64)
            });
            println!("| {} |{}", load.name(), each.collect::<String>());
        }
    }
}

fn p50(cell: &Cell) -> f64 {
    let mut nanos = cell.sample.nanos.clone();
    nanos.sort_unstable();
    percentile(&nanos, 50) as f64
}

/// Of sorted numbers.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}
