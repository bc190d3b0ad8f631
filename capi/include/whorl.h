/* Whorl for programs in C. Made from capi/src by cbindgen; a test compares them. */

#ifndef WHORL_H
#define WHORL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The result of a call.
typedef enum {
  // Success.
  WHORL_OK = 0,
  // An argument is not valid: a null pointer, an invalid name, a size out of range.
  WHORL_ERR_ARGUMENT = 1,
  // The time limit passed, or there is nothing to receive now.
  WHORL_ERR_TIMED_OUT = 2,
  // A signal asked the program to stop.
  WHORL_ERR_INTERRUPTED = 3,
  // `shell rm` asked the channel or the server to end.
  WHORL_ERR_STOPPED = 4,
  // Another process has the name or the port.
  WHORL_ERR_IN_USE = 5,
  // There is no such server, mailbox or answer.
  WHORL_ERR_NOT_FOUND = 6,
  // The message is longer than half of the ring, the mailbox or the buffer. Nothing was sent or received.
  WHORL_ERR_TOO_LONG = 7,
  // Every seat is taken.
  WHORL_ERR_FULL = 8,
  // The stream has begun, and its first bytes are gone.
  WHORL_ERR_MISSED = 9,
  // The sender died before the end.
  WHORL_ERR_SENDER_DIED = 10,
  // The receiver was too slow, and the sender evicted it.
  WHORL_ERR_EVICTED = 11,
  // The peer does not follow the protocol.
  WHORL_ERR_CORRUPT = 12,
  // The handle belongs to the process that forked this one.
  WHORL_ERR_FORKED = 13,
  // A system call failed; the text says which.
  WHORL_ERR_SYSTEM = 14,
  // A fault of this library. The caller may destroy the handle, and must not use it otherwise.
  WHORL_ERR_PANIC = 15,
} whorl_status;

// What kind of message was received.
typedef enum {
  // `length` bytes, at the start of the buffer.
  WHORL_MSG_BYTES = 0,
  // `length` zero bytes, which are not in the buffer. Only a receiver that asks for holes gets it.
  WHORL_MSG_HOLE = 1,
  // The end: the receiver has received everything, `length` bytes in all.
  WHORL_MSG_END = 2,
} whorl_message_kind;

// Where a server runs, judged by what reaches it.
typedef enum {
  // On this host: TCP and shared memory reach it.
  WHORL_REACH_HOST = 0,
  // In a container that shares the network: only TCP reaches it.
  WHORL_REACH_CONTAINER = 1,
  // On another machine, or dead: neither reaches it.
  WHORL_REACH_VM = 2,
} whorl_reach;

// Where in the stream a receiver starts.
typedef enum {
  // From the first message.
  WHORL_START_FIRST = 0,
  // From the next message that the sender sends.
  WHORL_START_NOW = 1,
} whorl_start;

// The answers of all announced servers.
typedef struct whorl_answers whorl_answers;

// The mailboxes of a server, for one thread at a time.
typedef struct whorl_mailboxes whorl_mailboxes;

// A receiver of a channel.
typedef struct whorl_receiver whorl_receiver;

// The sender of a channel.
typedef struct whorl_sender whorl_sender;

// A server that is announced in a directory.
typedef struct whorl_server whorl_server;

// How a channel is created. Set `size` to `sizeof(whorl_sender_options)` and every other field that you do not need to 0,
// which means its default.
typedef struct {
  // The size of this struct, which identifies its version.
  size_t size;
  // Bytes of the ring, rounded up to a power of two; the default is 1 MiB. The longest message has half of it less 8 bytes.
  uint64_t ring;
  // The most receivers at a time; the default is 64.
  uint32_t seats;
  // Evict a receiver that blocks the sender and makes no progress for this many milliseconds; by default the sender waits.
  uint32_t evict_after_ms;
  // The directory for the channel's name; by default the user's runtime directory.
  const char *runtime_dir;
} whorl_sender_options;

// How many receivers ended in which way.
typedef struct {
  // Receivers that received everything.
  uint64_t done;
  // Receivers that left before the end.
  uint64_t left;
  // Receivers that reported an error of their own.
  uint64_t failed;
  // Receivers that died.
  uint64_t lost;
  // Receivers that the sender evicted because they were too slow.
  uint64_t evicted;
} whorl_peer_summary;

// How a channel is joined. Set `size` to `sizeof(whorl_receiver_options)` and every other field that you do not need to 0,
// which means its default.
typedef struct {
  // The size of this struct, which identifies its version.
  size_t size;
  // A `whorl_start`; the default is `WHORL_START_FIRST`.
  int start;
  // 1 to receive a hole as `WHORL_MSG_HOLE`. The default, 0, receives its zero bytes, in pieces that fit the buffer.
  int holes;
  // How many milliseconds joining waits for a sender; the default has no limit.
  uint64_t timeout_ms;
  // The directory for the channel's name; by default the user's runtime directory.
  const char *runtime_dir;
} whorl_receiver_options;

// The kind and the length of a received message.
typedef struct {
  // What kind of message it is.
  whorl_message_kind kind;
  // Its length in bytes.
  uint64_t length;
} whorl_message;

// What a server gives its clients, and where it announces itself. Set `size` to `sizeof(whorl_server_options)`, set
// `directory`, and set every other field that you do not need to 0.
typedef struct {
  // The size of this struct, which identifies its version.
  size_t size;
  // The directory in which the server announces itself; it is created if it does not exist. It must be given.
  const char *directory;
  // The message that each client gets over TCP; by default it is empty.
  const void *socket_message;
  // Its length in bytes, at most 1 MiB.
  size_t socket_length;
  // The message that each client gets through shared memory; by default it is empty.
  const void *shm_message;
  // Its length in bytes, at most 1 MiB.
  size_t shm_length;
  // The address at which the server listens, as text; by default 127.0.0.1.
  const char *address;
  // 1 to serve every user of this machine. The default, 0, serves this process's user and root on loopback.
  int any_user;
  // The directory for the name of the server's channel; by default the user's runtime directory.
  const char *runtime_dir;
} whorl_server_options;

// The answer of one server. The pointers are valid until `whorl_answers_destroy`. A pointer is null if there is no message or no
// error.
typedef struct {
  // Its information file.
  const char *file;
  // Where it runs.
  whorl_reach reach;
  // Its message over TCP, `socket_length` bytes.
  const uint8_t *socket_message;
  // The length of that message.
  size_t socket_length;
  // Its message through shared memory, `shm_length` bytes.
  const uint8_t *shm_message;
  // The length of that message.
  size_t shm_length;
  // Why TCP or shared memory did not reach it, or what is wrong with its file.
  const char *error;
} whorl_answer;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Returns the text of the last error of this thread: one line without a line end, or the empty text.
//
// The text is valid until the next call of this thread fails. A text of more than 4095 bytes is cut.
const char *whorl_last_error(void);

// Returns the version of the library, for example "0.1.0".
const char *whorl_version(void);

// Creates a channel under a name: 1 to 64 letters, digits, dots, hyphens and underscores. On success `*sender` belongs to the
// caller until `whorl_sender_destroy`.
//
// # Safety
// - `name` points to a text that ends with a zero byte.
// - `options` is null, for the defaults, or points to options whose `size` is right and whose texts end with a zero byte.
// - `sender` points to room for a pointer.
whorl_status whorl_sender_create(const char *name,
                                 const whorl_sender_options *options,
                                 whorl_sender **sender);

// Waits until `count` receivers have joined, at most `timeout_ms` milliseconds; a negative time has no limit.
//
// # Safety
// - `sender` came from `whorl_sender_create`, was not destroyed, and no other thread uses it during the call.
whorl_status whorl_sender_wait_for_receivers(whorl_sender *sender,
                                             uint32_t count,
                                             int64_t timeout_ms);

// Returns the number of receivers that take part now, or 0 if `sender` is null.
//
// # Safety
// - `sender` came from `whorl_sender_create`, was not destroyed, and no other thread changes it during the call.
size_t whorl_sender_receivers(const whorl_sender *sender);

// Sends one message to every receiver that takes part. Waits for the slowest receiver at most `timeout_ms` milliseconds: 0 does
// not wait, a negative time has no limit.
//
// # Safety
// - `sender` came from `whorl_sender_create`, was not destroyed, and no other thread uses it during the call.
// - `data` points to `length` bytes; it may be null if `length` is 0.
whorl_status whorl_sender_send(whorl_sender *sender,
                               const void *data,
                               size_t length,
                               int64_t timeout_ms);

// Ends the stream, and waits until every receiver has received everything or is gone, at most `timeout_ms` milliseconds. Stores
// in `*summary` how many receivers ended in which way, if `summary` is not null.
//
// # Safety
// - `sender` came from `whorl_sender_create`, was not destroyed, and no other thread uses it during the call.
// - `summary` is null or points to room for one.
whorl_status whorl_sender_finish(whorl_sender *sender,
                                 int64_t timeout_ms,
                                 whorl_peer_summary *summary);

// Destroys a sender. Without `whorl_sender_finish` before, the receivers learn that the stream is not complete. Null is allowed.
//
// # Safety
// - `sender` is null, or came from `whorl_sender_create` and was not destroyed; the caller does not use it again.
void whorl_sender_destroy(whorl_sender *sender);

// Joins the channel of a name, and waits for its sender as the options say. On success `*receiver` belongs to the caller until
// `whorl_receiver_destroy`.
//
// # Safety
// - `name` points to a text that ends with a zero byte.
// - `options` is null, for the defaults, or points to options whose `size` is right and whose texts end with a zero byte.
// - `receiver` points to room for a pointer.
whorl_status whorl_receiver_join(const char *name,
                                 const whorl_receiver_options *options,
                                 whorl_receiver **receiver);

// Returns the length of the longest possible message, which is the least buffer that takes every message, or 0 if `receiver` is
// null.
//
// # Safety
// - `receiver` came from `whorl_receiver_join`, was not destroyed, and no other thread changes it during the call.
size_t whorl_receiver_max_message_len(const whorl_receiver *receiver);

// Receives the next message into `buffer`. Waits at most `timeout_ms` milliseconds: 0 does not wait, a negative time has no
// limit. A message that does not fit is `WHORL_ERR_TOO_LONG`, and stays for a longer buffer.
//
// # Safety
// - `receiver` came from `whorl_receiver_join`, was not destroyed, and no other thread uses it during the call.
// - `buffer` points to `capacity` bytes that no other thread uses during the call; it may be null if `capacity` is 0.
// - `message` points to room for one.
whorl_status whorl_receiver_recv(whorl_receiver *receiver,
                                 void *buffer,
                                 size_t capacity,
                                 int64_t timeout_ms,
                                 whorl_message *message);

// Returns a descriptor for poll(2), or -1 if `receiver` is null. Call `whorl_receiver_arm` first; if it stores true, wait until
// the descriptor is readable. The descriptor belongs to the receiver: do not close it.
//
// # Safety
// - `receiver` came from `whorl_receiver_join`, was not destroyed, and no other thread changes it during the call.
int whorl_receiver_fd(const whorl_receiver *receiver);

// Prepares to wait for the descriptor. Stores true in `*armed` if the caller can wait now, or false if there is something to
// receive already.
//
// # Safety
// - `receiver` came from `whorl_receiver_join`, was not destroyed, and no other thread uses it during the call.
// - `armed` points to room for a bool.
whorl_status whorl_receiver_arm(whorl_receiver *receiver,
                                bool *armed);

// Leaves the channel and destroys the receiver. Null is allowed.
//
// # Safety
// - `receiver` is null, or came from `whorl_receiver_join` and was not destroyed; the caller does not use it again.
void whorl_receiver_destroy(whorl_receiver *receiver);

// Attaches to the mailboxes of this user's server on a port, as `shell dipc` starts one. On success `*mailboxes` belongs to the
// caller until `whorl_mailboxes_destroy`.
//
// # Safety
// - `mailboxes` points to room for a pointer.
whorl_status whorl_mailboxes_attach(uint16_t port,
                                    whorl_mailboxes **mailboxes);

// Returns the number of mailboxes, which are numbered from 0, or 0 if `mailboxes` is null.
//
// # Safety
// - `mailboxes` came from `whorl_mailboxes_attach`, was not destroyed, and no other thread uses it during the call.
uint32_t whorl_mailboxes_count(const whorl_mailboxes *mailboxes);

// Returns the most bytes that a message can have, or 0 if `mailboxes` is null.
//
// # Safety
// - `mailboxes` came from `whorl_mailboxes_attach`, was not destroyed, and no other thread uses it during the call.
size_t whorl_mailboxes_capacity(const whorl_mailboxes *mailboxes);

// Copies the latest message of mailbox `index` into `buffer`. `*length` is its length and `*version` its version: 0 for a
// mailbox that was never written. If the message does not fit, that is `WHORL_ERR_TOO_LONG`, and `*length` is how much it needs.
//
// Waits for at most one writer, at most `timeout_ms` milliseconds; a negative time has no limit.
//
// # Safety
// - `mailboxes` came from `whorl_mailboxes_attach`, was not destroyed, and no other thread uses it during the call.
// - `buffer` points to `capacity` bytes that no other thread uses during the call; it may be null if `capacity` is 0.
// - `length` points to room for one; `version` does too, or is null.
whorl_status whorl_mailboxes_read(whorl_mailboxes *mailboxes,
                                  uint32_t index,
                                  void *buffer,
                                  size_t capacity,
                                  int64_t timeout_ms,
                                  size_t *length,
                                  uint64_t *version);

// Replaces the message of mailbox `index`, as a whole. `*version` is its version, if `version` is not null.
//
// Waits for the writers that come first and the readers that are in, at most `timeout_ms` milliseconds; a negative
// time has no limit.
//
// # Safety
// - `mailboxes` came from `whorl_mailboxes_attach`, was not destroyed, and no other thread uses it during the call.
// - `data` points to `length` bytes; it may be null if `length` is 0.
// - `version` is null or points to room for one.
whorl_status whorl_mailboxes_write(whorl_mailboxes *mailboxes,
                                   uint32_t index,
                                   const void *data,
                                   size_t length,
                                   int64_t timeout_ms,
                                   uint64_t *version);

// Stores the version of the latest message of mailbox `index` in `*version`.
//
// # Safety
// - `mailboxes` came from `whorl_mailboxes_attach`, was not destroyed, and no other thread uses it during the call.
// - `version` points to room for one.
whorl_status whorl_mailboxes_version(whorl_mailboxes *mailboxes,
                                     uint32_t index,
                                     uint64_t *version);

// Waits until mailbox `index` has a newer message than version `than`, at most `timeout_ms` milliseconds; a negative
// time has no limit. Then read the mailbox: the growth of its version is the number of messages, missed ones included.
//
// # Safety
// - `mailboxes` came from `whorl_mailboxes_attach`, was not destroyed, and no other thread uses it during the call.
whorl_status whorl_mailboxes_wait(whorl_mailboxes *mailboxes,
                                  uint32_t index,
                                  uint64_t than,
                                  int64_t timeout_ms);

// Detaches from the mailboxes. Null is allowed.
//
// # Safety
// - `mailboxes` is null, or came from `whorl_mailboxes_attach` and was not destroyed; the caller does not use it again.
void whorl_mailboxes_destroy(whorl_mailboxes *mailboxes);

// Starts a server that is announced in a directory and gives each client two messages: one over TCP, one through shared memory.
// It serves in threads of its own. On success `*server` belongs to the caller until `whorl_server_destroy`.
//
// # Safety
// - `name` points to a text that ends with a zero byte.
// - `options` points to options whose `size` is right, whose texts end with a zero byte, and whose messages have their lengths.
// - `server` points to room for a pointer.
whorl_status whorl_server_start(const char *name,
                                const whorl_server_options *options,
                                whorl_server **server);

// Returns the port at which the server listens, or 0 if `server` is null.
//
// # Safety
// - `server` came from `whorl_server_start`, was not destroyed, and no other thread uses it during the call.
uint16_t whorl_server_port(const whorl_server *server);

// Returns the number of clients so far, or 0 if `server` is null.
//
// # Safety
// - `server` came from `whorl_server_start`, was not destroyed, and no other thread uses it during the call.
uint64_t whorl_server_clients(const whorl_server *server);

// Serves until `clients` clients have come (0: without end), at most `timeout_ms` milliseconds; a negative time has no limit. Both
// are `WHORL_OK`: `whorl_server_clients` shows which happened.
//
// # Safety
// - `server` came from `whorl_server_start`, was not destroyed, and no other thread uses it during the call.
whorl_status whorl_server_wait(whorl_server *server,
                               uint64_t clients,
                               int64_t timeout_ms);

// Destroys a server and removes its announcement. Null is allowed.
//
// # Safety
// - `server` is null, or came from `whorl_server_start` and was not destroyed; the caller does not use it again.
void whorl_server_destroy(whorl_server *server);

// Asks every server that is announced in a directory, all at once, for at most `timeout_ms` milliseconds (a negative time is two
// seconds). On success `*answers` belongs to the caller until `whorl_answers_destroy`.
//
// # Safety
// - `directory` points to a text that ends with a zero byte.
// - `answers` points to room for a pointer.
whorl_status whorl_discover(const char *directory,
                            int64_t timeout_ms,
                            whorl_answers **answers);

// Returns the number of answers, or 0 if `answers` is null.
//
// # Safety
// - `answers` came from `whorl_discover`, was not destroyed, and no other thread uses it during the call.
size_t whorl_answers_count(const whorl_answers *answers);

// Stores the answer with this index in `*answer`. Answers are in the order of the information files.
//
// # Safety
// - `answers` came from `whorl_discover`, was not destroyed, and no other thread uses it during the call.
// - `answer` points to room for one.
whorl_status whorl_answers_get(whorl_answers *answers,
                               size_t index,
                               whorl_answer *answer);

// Destroys answers, and what they point to. Null is allowed.
//
// # Safety
// - `answers` is null, or came from `whorl_discover` and was not destroyed; the caller does not use it again.
void whorl_answers_destroy(whorl_answers *answers);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* WHORL_H */
