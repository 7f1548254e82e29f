//! Every promise of README and DESIGN, through the real binary and real sockets: one module per promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(missing_docs, unreachable_pub, reason = "the name of a test is its documentation")]

mod allow;
mod audit_commands;
mod audit_crash;
mod audit_place;
mod audit_read;
mod audit_tamper;
mod bad_input;
mod chatgpt;
mod clients_replay;
mod clients_session;
mod clock_jumps;
mod command_line;
mod copilot;
mod device_dialects;
mod doctor;
mod environment_keys;
mod exec;
mod exec_build;
mod flow;
mod flow_support;
mod front_door;
mod headers;
mod hosts;
mod invariant_1;
mod invariant_2;
mod invariant_3;
mod invariant_4;
mod invariant_5;
mod invariant_6;
mod invariant_7;
mod invariant_8;
mod invariant_9;
mod local_keys;
mod login;
mod logout_status;
mod pass_through_bytes;
mod passthrough;
mod practice_provider;
mod properties;
mod provider_faults;
mod redaction;
mod redaction_identity;
mod rekey;
mod restoring;
mod routing;
mod rules;
mod scan;
mod secrets_and_people;
mod store_crash;
mod store_damage;
mod store_support;
mod store_two_writers;
mod streaming;
mod support;
mod system_faults;
mod token_life;
mod upstream;
mod withholding;
