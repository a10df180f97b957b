//! What requests and bytes cost, by a table that the user can replace.

use std::path::Path;

use anyhow::Result;
use clap::Args;
use coffer_engine::Estimate;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::command_error::Failure;
use crate::output::{bytes, requests_json, requests_text};

/// The table that is built in: round example figures, not a quotation of any provider.
pub(crate) const EXAMPLE: &str = include_str!("prices.toml");

/// Flags of commands that estimate.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PriceArgs {
    /// Say what it would cost in requests, bytes and money, and do nothing.
    #[arg(long)]
    pub(crate) estimate: bool,
    /// Table of prices (TOML), in place of the example figures that are built in.
    #[arg(long, value_name = "FILE", requires = "estimate")]
    prices: Option<std::path::PathBuf>,
    /// Row of the table: LOCATION/CLASS, as eu-de/standard.
    #[arg(long, value_name = "ROW", requires = "estimate", default_value = "default/standard")]
    price_row: String,
}

/// Prices of one location and class.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prices {
    /// Of 1000 requests that write or list.
    class_a_per_1000: f64,
    /// Of 1000 requests that read or ask.
    class_b_per_1000: f64,
    /// Of a gigabyte (10^9 bytes) kept for a month.
    storage_per_gb_month: f64,
    /// Of a gigabyte that leaves the provider.
    egress_per_gb: f64,
    /// Of a gigabyte read from a class that charges for it.
    #[serde(default)]
    retrieval_per_gb: f64,
    /// Of a gigabyte brought back from an archive class.
    #[serde(default)]
    archive_restore_per_gb: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    currency: String,
    #[serde(default)]
    note: String,
    location: std::collections::BTreeMap<String, std::collections::BTreeMap<String, Prices>>,
}

/// A row of a table, with what is said of it.
#[derive(Debug)]
pub(crate) struct PriceRow {
    prices: Prices,
    currency: String,
    note: String,
    row: String,
}

impl PriceArgs {
    /// The row that is chosen.
    pub(crate) fn row(&self) -> Result<PriceRow> {
        let text = match &self.prices {
            Some(path) => read(path)?,
            None => EXAMPLE.to_owned(),
        };
        let table: Table = toml::from_str(&text).map_err(|error| {
            Failure::usage(format!("the table of prices cannot be used: {}", error.message()))
        })?;
        let (location, class) = self.price_row.split_once('/').unwrap_or((&self.price_row, "standard"));
        let found = table.location.get(location).and_then(|classes| classes.get(class));
        let Some(prices) = found else {
            let rows = table.location.iter().flat_map(|(location, classes)| {
                classes.keys().map(move |class| format!("{location}/{class}"))
            });
            let rows: Vec<_> = rows.collect();
            return Err(Failure::usage(format!("the table of prices has no row {location}/{class}"))
                .hint(format!("it has {}", rows.join(", ")))
                .into());
        };
        let row = format!("{location}/{class}");
        Ok(PriceRow { prices: *prices, currency: table.currency, note: table.note, row })
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("the table of prices {}: {error}", path.display())).into())
}

impl PriceRow {
    /// Requests, moving bytes out, bringing back from an archive, and keeping for a month what comes on top.
    fn cost(&self, estimate: &Estimate) -> (f64, f64, f64, f64) {
        let (p, r) = (&self.prices, &estimate.requests);
        let giga = |bytes: u64| bytes as f64 / 1e9;
        let requests =
            r.class_a() as f64 / 1e3 * p.class_a_per_1000 + r.class_b() as f64 / 1e3 * p.class_b_per_1000;
        (
            requests,
            giga(r.read_bytes) * (p.egress_per_gb + p.retrieval_per_gb),
            giga(estimate.archived_bytes) * p.archive_restore_per_gb,
            giga(estimate.stored_bytes) * p.storage_per_gb_month,
        )
    }

    pub(crate) fn json(&self, command: &str, estimate: &Estimate) -> Value {
        let (requests, transfer, archive, storage) = self.cost(estimate);
        json!({
            "message_type": "estimate", "command": command, "requests": requests_json(&estimate.requests),
            "class_a": estimate.requests.class_a(), "class_b": estimate.requests.class_b(),
            "stored_bytes": estimate.stored_bytes, "archived_bytes": estimate.archived_bytes,
            "archived_objects": estimate.archived_count, "currency": self.currency, "price_row": self.row,
            "price_note": self.note, "cost_requests": requests, "cost_transfer": transfer, "cost_archive": archive,
            "cost_storage_month": storage, "cost": requests + transfer + archive,
        })
    }

    pub(crate) fn text(&self, estimate: &Estimate) -> String {
        let (requests, transfer, archive, storage) = self.cost(estimate);
        let r = &estimate.requests;
        let mut lines = vec![
            requests_text(r),
            format!("class A (write, list) {}, class B (read, ask) {}", r.class_a(), r.class_b()),
            format!(
                "sent {}, received {}, kept {}",
                bytes(r.create_bytes),
                bytes(r.read_bytes),
                bytes(estimate.stored_bytes)
            ),
        ];
        if estimate.archived_count > 0 {
            lines.push(format!(
                "{} archived pack(s), {}, to bring back",
                estimate.archived_count,
                bytes(estimate.archived_bytes)
            ));
        }
        lines.push(format!(
            "{:.4} {} in all: requests {requests:.4}, transfer {transfer:.4}, archive {archive:.4}; and {storage:.4} a month for keeping it",
            requests + transfer + archive,
            self.currency,
        ));
        lines.push(format!("prices of {}: {}", self.row, self.note));
        lines.push("estimate: nothing was done".to_owned());
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use coffer_store::RequestCounts;

    use super::*;

    fn args(row: &str) -> PriceArgs {
        PriceArgs { estimate: true, prices: None, price_row: row.to_owned() }
    }

    #[test]
    fn the_table_that_is_built_in_is_one() {
        for row in ["default/standard", "default/archive", "eu-de/standard"] {
            args(row).row().expect(row);
        }
        assert!(args("moon/standard").row().expect_err("no row").to_string().contains("moon/standard"));
    }

    #[test]
    fn money_follows_from_requests_and_bytes() {
        let prices = Prices {
            class_a_per_1000: 5.0,
            class_b_per_1000: 0.5,
            storage_per_gb_month: 0.1,
            egress_per_gb: 1.0,
            retrieval_per_gb: 0.5,
            archive_restore_per_gb: 0.25,
        };
        let row = PriceRow { prices, currency: "X".into(), note: String::new(), row: String::new() };
        let requests = RequestCounts {
            create_count: 500,
            multipart_count: 400,
            list_count: 100,
            read_count: 1500,
            stat_count: 500,
            read_bytes: 2_000_000_000,
            delete_count: 9,
            ..RequestCounts::default()
        };
        let estimate = Estimate {
            requests,
            stored_bytes: 3_000_000_000,
            archived_bytes: 4_000_000_000,
            archived_count: 1,
        };
        let (requests, transfer, archive, storage) = row.cost(&estimate);
        assert!((requests - 6.0).abs() < 1e-9 && (transfer - 3.0).abs() < 1e-9);
        assert!((archive - 1.0).abs() < 1e-9 && (storage - 0.3).abs() < 1e-9);
    }
}
