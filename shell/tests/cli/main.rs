//! The command, started as a child process. No test here changes the state of its own process: a test that has to, runs itself
//! in another process (`kit::ran_alone`).

#[path = "../kit/mod.rs"]
mod kit;

mod channel_deaths;
mod channel_evict;
mod channel_hostile;
mod channel_joins;
mod channel_signals;
mod channel_stress;
mod copy_faults;
mod copy_kills;
mod copy_output;
mod copy_refuses;
mod copy_syscalls;
mod copy_works;
mod dipc_callers;
mod dipc_kills;
mod dipc_life;
mod dipc_listen;
mod dipc_mail;
mod dipc_nc;
mod dipc_server;
mod dipc_token;
mod dipc_users;
mod docs;
mod doctor;
mod errors;
mod exhaustion;
mod faults;
mod files;
mod help;
mod lines;
mod logs;
mod ls_rm;
mod messages;
mod names_kept;
mod package;
mod pid_namespaces;
mod segment;
mod send_recv;
mod serve_servers;
mod signals;
mod started_by;
mod strange_fs;
mod streams;
#[cfg(feature = "cli")]
mod top;
mod whorl;
