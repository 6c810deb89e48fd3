//! `config/rabbitmq/definitions.json` is what `topology export --users` prints for the shipped settings.

use std::fs;

use anyhow::Result;
use irn_worker::broker::{Topology, users};
use irn_worker::config;
use serde_json::Value;

use crate::support::shipped;

#[test]
fn shipped_definitions_are_the_exported_ones() -> Result<()> {
    let config = config::load_broker_side(&shipped("worker.toml"), [])?.config;
    let topology = Topology::of(&config.replies, &config.retry, &config.dead_letter);
    let exported = topology.definitions_with_users("/", &users(&config.replies));
    let text = fs::read_to_string(shipped("rabbitmq/definitions.json"))?;
    let stated: Value = serde_json::from_str(&text)?;
    assert_eq!(stated, exported, "irn-worker topology export --users");
    Ok(())
}

#[test]
fn no_password_and_no_hash_of_one_is_in_them() -> Result<()> {
    let text = fs::read_to_string(shipped("rabbitmq/definitions.json"))?;
    let stated: Value = serde_json::from_str(&text)?;
    let users = stated["users"].as_array().map_or(&[][..], Vec::as_slice);
    assert_eq!(users.len(), 4);
    for user in users {
        assert_eq!(user["password_hash"], "", "{user}");
        assert_eq!(user.get("password"), None, "{user}");
    }
    Ok(())
}
