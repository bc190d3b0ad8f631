//! The mailbox server: a protocol that a person can type, and the code that serves it.
//!
//! | module | what it is |
//! |---|---|
//! | [`wire`] | the first line of a request, as a pure function over bytes |
//! | [`reply`] | the reply lines |
//! | [`out_buffer`] | the buffer for replies |
//! | [`budget`] | memory for data in flight, bounded for all connections together |
//! | [`session`] | one connection's requests and replies, without a socket and a clock |
//! | [`connection`] | a socket and its session |
//! | [`lobby`] | clients that have not sent their token yet |
//! | [`worker`] | a thread with an epoll set and a share of the connections |
//! | [`worker_queue`] | a worker's queue of messages |
//! | [`wait_list`] | which workers have clients that wait for a message, and how they are notified |
//! | [`waiters`] | a worker's clients that wait for a message |
//! | [`timers`] | deadlines of many connections |
//! | [`store`] | a worker's view of the mailboxes |
//! | [`server`] | the server: it opens everything, accepts clients, and removes everything |
//! | [`listen`] | TCP and unix sockets, and accepting clients |
//! | [`rejected`] | clients that get one line and are not served |
//! | [`callers`] | programs at the control socket |
//! | [`notify`] | the message to a supervisor that the server is ready |
//! | [`token`] | the token file |
//! | [`server_registry`] | where a server is found: its lock file |
//! | [`remove`] | stopping a server, and removing a dead server's files |
//! | [`address`] | the address of a server, as users write it |
//! | [`client`] | a client over sockets |
//! | [`attach`] | using a server's mailboxes through shared memory |

pub mod address;
pub mod attach;
pub mod budget;
pub(crate) mod callers;
pub mod client;
pub(crate) mod connection;
pub mod listen;
pub mod lobby;
pub mod notify;
pub mod out_buffer;
pub(crate) mod rejected;
pub mod remove;
pub mod reply;
pub mod server;
pub mod server_registry;
pub mod session;
pub(crate) mod store;
mod timed;
pub(crate) mod timers;
pub mod token;
pub mod wait_list;
pub(crate) mod waiters;
pub mod wire;
pub mod worker;
pub mod worker_queue;
