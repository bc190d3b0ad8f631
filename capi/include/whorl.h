/* Whorl for programs in C. Made from capi/src by cbindgen; a test compares them. */

#ifndef WHORL_H
#define WHORL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// How a call ended.
typedef enum {
  // Done.
  WHORL_OK = 0,
  // An argument makes no sense: a null pointer, a name that is none, a size out of range.
  WHORL_ARGUMENT = 1,
  // The time was up.
  WHORL_TIMED_OUT = 2,
  // A signal asked the program to stop.
  WHORL_INTERRUPTED = 3,
  // Somebody asked it to end, as `shell rm` does.
  WHORL_STOPPED = 4,
  // The name or the port belongs to somebody else.
  WHORL_IN_USE = 5,
  // There is no such server, mailbox or answer.
  WHORL_NOTHING = 6,
  // The message is longer than what it is to go into; nothing was sent or taken.
  WHORL_TOO_LONG = 7,
  // Every place is taken.
  WHORL_FULL = 8,
  // The stream has begun, and its first bytes are gone.
  WHORL_MISSED = 9,
  // The sender died before the end.
  WHORL_SENDER_DIED = 10,
  // We were too slow, and the sender went on without us.
  WHORL_EVICTED = 11,
  // The other side does not keep to the protocol.
  WHORL_CORRUPT = 12,
  // The handle belongs to the process that forked this one.
  WHORL_FORKED = 13,
  // The system refused something; the text says what.
  WHORL_SYSTEM = 14,
  // A mistake in this library. The handle may be freed, and nothing else.
  WHORL_PANIC = 15,
} whorl_status;

// What was received.
typedef enum {
  // `length` bytes, at the start of the buffer.
  WHORL_BYTES = 0,
  // `length` zero bytes, which are not in the buffer.
  WHORL_HOLE = 1,
  // The end: everything was received, `length` bytes in all.
  WHORL_END = 2,
} whorl_kind;

// Where a server runs, as far as its ways tell.
typedef enum {
  // On this host: the socket and shared memory work.
  WHORL_HOST = 0,
  // In a container that shares the network: the socket alone works.
  WHORL_CONTAINER = 1,
  // On another machine, or dead: neither works.
  WHORL_VM = 2,
} whorl_place;

// What every announced server said.
typedef struct whorl_answers whorl_answers;

// The mailboxes of a server, for one thread at a time.
typedef struct whorl_mailboxes whorl_mailboxes;

// A receiver of a channel.
typedef struct whorl_receiver whorl_receiver;

// The sender of a channel.
typedef struct whorl_sender whorl_sender;

// A server that is announced.
typedef struct whorl_server whorl_server;

// What became of the receivers of a channel.
typedef struct {
  // How many have everything.
  uint64_t done;
  // How many had enough before the end.
  uint64_t left;
  // How many failed on their side, or were thrown out.
  uint64_t failed;
  // How many went without a word.
  uint64_t lost;
} whorl_tally;

// A message, but for its bytes.
typedef struct {
  // What it is.
  whorl_kind kind;
  // How long it is.
  uint64_t length;
} whorl_message;

// What one server said. The pointers are good until `whorl_discover_free`; one is null where there was nothing.
typedef struct {
  // Its information file.
  const char *file;
  // Where it runs.
  whorl_place place;
  // What it said over TCP, `socket_length` bytes.
  const uint8_t *socket_message;
  // How long that is.
  size_t socket_length;
  // What it said through shared memory, `shm_length` bytes.
  const uint8_t *shm_message;
  // How long that is.
  size_t shm_length;
  // Why a way did not work, or what is wrong with its file.
  const char *error;
} whorl_answer;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// What went wrong in the last call of this thread that did not return `WHORL_OK`: one line, without a line end.
//
// The text is good until the next call of this thread fails; the empty text if none has. A text of more than 4095 bytes is cut.
const char *whorl_last_error(void);

// The version of the library, as in "0.1.0".
const char *whorl_version(void);

// Opens a channel under a name: 1 to 64 letters, digits, dots, hyphens and underscores.
//
// `slot_size` is the longest message, `slots` (a power of two) how many fit the ring, `seats` how many may receive at a time;
// 0 means 80 KiB, 8 and 64. On success `*sender` is the caller's until `whorl_send_free`.
//
// # Safety
// - `name` points to a text that ends with a zero byte.
// - `sender` points to room for a pointer.
whorl_status whorl_send_create(const char *name,
                               uint32_t slot_size,
                               uint32_t slots,
                               uint32_t seats,
                               whorl_sender **sender);

// Waits until `count` receivers take part, at most `timeout_ms` milliseconds; a negative time is for ever.
//
// # Safety
// - `sender` came from `whorl_send_create`, was not freed, and is used by no other thread meanwhile.
whorl_status whorl_send_wait_receivers(whorl_sender *sender,
                                       uint32_t count,
                                       int64_t timeout_ms);

// How many receivers take part now; 0 if `sender` is null.
//
// # Safety
// - `sender` came from `whorl_send_create`, was not freed, and is used by no other thread meanwhile.
size_t whorl_send_receivers(whorl_sender *sender);

// Sends one message to every receiver that takes part, waiting for the slowest at most `timeout_ms` milliseconds: 0 does not
// wait, a negative time is for ever.
//
// # Safety
// - `sender` came from `whorl_send_create`, was not freed, and is used by no other thread meanwhile.
// - `data` points to `length` bytes; it may be null if `length` is 0.
whorl_status whorl_send_message(whorl_sender *sender,
                                const void *data,
                                size_t length,
                                int64_t timeout_ms);

// Ends the stream, and waits until every receiver has everything or is gone, at most `timeout_ms` milliseconds. What became of
// them is put into `*tally`, if `tally` is not null.
//
// # Safety
// - `sender` came from `whorl_send_create`, was not freed, and is used by no other thread meanwhile.
// - `tally` is null or points to room for one.
whorl_status whorl_send_finish(whorl_sender *sender,
                               int64_t timeout_ms,
                               whorl_tally *tally);

// Ends a sender. Without `whorl_send_finish` before, the receivers learn that the stream is not whole. Null is allowed.
//
// # Safety
// - `sender` is null, or came from `whorl_send_create` and was not freed; it is not used again.
void whorl_send_free(whorl_sender *sender);

// Joins the channel of a name, waiting for its sender at most `timeout_ms` milliseconds; a negative time is for ever.
//
// The stream is received from its first byte, or, if `from_now`, from whatever is sent next. On success `*receiver` is the
// caller's until `whorl_recv_free`.
//
// # Safety
// - `name` points to a text that ends with a zero byte.
// - `receiver` points to room for a pointer.
whorl_status whorl_recv_join(const char *name,
                             bool from_now,
                             int64_t timeout_ms,
                             whorl_receiver **receiver);

// The longest message there can be, which a buffer must hold; 0 if `receiver` is null.
//
// # Safety
// - `receiver` came from `whorl_recv_join`, was not freed, and is used by no other thread meanwhile.
size_t whorl_recv_longest(whorl_receiver *receiver);

// Receives the next message into `buffer`, waiting at most `timeout_ms` milliseconds: 0 does not wait, a negative time is for
// ever. A message that does not fit is `WHORL_TOO_LONG`, and stays.
//
// # Safety
// - `receiver` came from `whorl_recv_join`, was not freed, and is used by no other thread meanwhile.
// - `buffer` points to `capacity` bytes that nobody else uses meanwhile; it may be null if `capacity` is 0.
// - `message` points to room for one.
whorl_status whorl_recv_message(whorl_receiver *receiver,
                                void *buffer,
                                size_t capacity,
                                int64_t timeout_ms,
                                whorl_message *message);

// A descriptor for poll(2): readable when there may be something to receive, but only after `whorl_recv_arm` said that there is
// nothing just now. It belongs to the receiver: do not close it. -1 if `receiver` is null.
//
// # Safety
// - `receiver` came from `whorl_recv_join`, was not freed, and is used by no other thread meanwhile.
int whorl_recv_fd(whorl_receiver *receiver);

// Says that this receiver is about to wait for its descriptor. `*armed` is false if there is something to receive already.
//
// # Safety
// - `receiver` came from `whorl_recv_join`, was not freed, and is used by no other thread meanwhile.
// - `armed` points to room for a bool.
whorl_status whorl_recv_arm(whorl_receiver *receiver,
                            bool *armed);

// Leaves the channel and ends the receiver. Null is allowed.
//
// # Safety
// - `receiver` is null, or came from `whorl_recv_join` and was not freed; it is not used again.
void whorl_recv_free(whorl_receiver *receiver);

// Attaches to the mailboxes of this user's server on a port, as `shell dipc` starts one. On success `*mailboxes` is the
// caller's until `whorl_mailbox_free`.
//
// # Safety
// - `mailboxes` points to room for a pointer.
whorl_status whorl_mailbox_attach(uint16_t port,
                                  whorl_mailboxes **mailboxes);

// How many mailboxes there are, numbered from 0; 0 if `mailboxes` is null.
//
// # Safety
// - `mailboxes` came from `whorl_mailbox_attach`, was not freed, and is used by no other thread meanwhile.
uint32_t whorl_mailbox_count(whorl_mailboxes *mailboxes);

// The most bytes that a message can have; 0 if `mailboxes` is null.
//
// # Safety
// - `mailboxes` came from `whorl_mailbox_attach`, was not freed, and is used by no other thread meanwhile.
size_t whorl_mailbox_capacity(whorl_mailboxes *mailboxes);

// Copies the latest message of mailbox `index` into `buffer`. `*length` is its length and `*version` its version: 0 for a
// mailbox that was never written. If the message does not fit, that is `WHORL_TOO_LONG`, and `*length` is how much it needs.
//
// Waits for at most one writer, at most `timeout_ms` milliseconds; a negative time is for ever.
//
// # Safety
// - `mailboxes` came from `whorl_mailbox_attach`, was not freed, and is used by no other thread meanwhile.
// - `buffer` points to `capacity` bytes that nobody else uses meanwhile; it may be null if `capacity` is 0.
// - `length` points to room for one; `version` does too, or is null.
whorl_status whorl_mailbox_read(whorl_mailboxes *mailboxes,
                                uint32_t index,
                                void *buffer,
                                size_t capacity,
                                int64_t timeout_ms,
                                size_t *length,
                                uint64_t *version);

// Replaces the message of mailbox `index`, as a whole. `*version` is its version, if `version` is not null.
//
// Waits for the writers that come first and the readers that are in, at most `timeout_ms` milliseconds; a negative time is for
// ever.
//
// # Safety
// - `mailboxes` came from `whorl_mailbox_attach`, was not freed, and is used by no other thread meanwhile.
// - `data` points to `length` bytes; it may be null if `length` is 0.
// - `version` is null or points to room for one.
whorl_status whorl_mailbox_write(whorl_mailboxes *mailboxes,
                                 uint32_t index,
                                 const void *data,
                                 size_t length,
                                 int64_t timeout_ms,
                                 uint64_t *version);

// The version of the latest message of mailbox `index`.
//
// # Safety
// - `mailboxes` came from `whorl_mailbox_attach`, was not freed, and is used by no other thread meanwhile.
// - `version` points to room for one.
whorl_status whorl_mailbox_version(whorl_mailboxes *mailboxes,
                                   uint32_t index,
                                   uint64_t *version);

// Waits until mailbox `index` has a newer message than version `than`, at most `timeout_ms` milliseconds; a negative time is
// for ever. Read it then: by how much its version grew says how many messages were missed.
//
// # Safety
// - `mailboxes` came from `whorl_mailbox_attach`, was not freed, and is used by no other thread meanwhile.
whorl_status whorl_mailbox_wait(whorl_mailboxes *mailboxes,
                                uint32_t index,
                                uint64_t than,
                                int64_t timeout_ms);

// Detaches. Null is allowed.
//
// # Safety
// - `mailboxes` is null, or came from `whorl_mailbox_attach` and was not freed; it is not used again.
void whorl_mailbox_free(whorl_mailboxes *mailboxes);

// Announces a server in a directory, which gives each client two messages: one over TCP, one through shared memory. On success
// `*server` is the caller's until `whorl_server_free`; it serves from then on, in threads of its own.
//
// # Safety
// - `name` and `directory` point to texts that end with a zero byte.
// - `socket_message` points to `socket_length` bytes and `shm_message` to `shm_length`; each may be null if its length is 0.
// - `server` points to room for a pointer.
whorl_status whorl_server_start(const char *name,
                                const char *directory,
                                const void *socket_message,
                                size_t socket_length,
                                const void *shm_message,
                                size_t shm_length,
                                whorl_server **server);

// The port it listens at; 0 if `server` is null.
//
// # Safety
// - `server` came from `whorl_server_start`, was not freed, and is used by no other thread meanwhile.
uint16_t whorl_server_port(whorl_server *server);

// How many clients came; 0 if `server` is null.
//
// # Safety
// - `server` came from `whorl_server_start`, was not freed, and is used by no other thread meanwhile.
uint64_t whorl_server_clients(whorl_server *server);

// Serves until so many clients came (0: without end), or `timeout_ms` milliseconds passed; a negative time is for ever. Either is
// `WHORL_OK`: `whorl_server_clients` tells.
//
// # Safety
// - `server` came from `whorl_server_start`, was not freed, and is used by no other thread meanwhile.
whorl_status whorl_server_wait(whorl_server *server,
                               uint64_t clients,
                               int64_t timeout_ms);

// Ends a server and takes its announcement away. Null is allowed.
//
// # Safety
// - `server` is null, or came from `whorl_server_start` and was not freed; it is not used again.
void whorl_server_free(whorl_server *server);

// Asks every server that is announced in a directory, all at once, for at most `timeout_ms` milliseconds (a negative time is two
// seconds). On success `*answers` is the caller's until `whorl_discover_free`.
//
// # Safety
// - `directory` points to a text that ends with a zero byte.
// - `answers` points to room for a pointer.
whorl_status whorl_discover(const char *directory,
                            int64_t timeout_ms,
                            whorl_answers **answers);

// How many servers there are; 0 if `answers` is null.
//
// # Safety
// - `answers` came from `whorl_discover`, was not freed, and is used by no other thread meanwhile.
size_t whorl_discover_count(whorl_answers *answers);

// What the server with this index said, in the order of the files.
//
// # Safety
// - `answers` came from `whorl_discover`, was not freed, and is used by no other thread meanwhile.
// - `answer` points to room for one.
whorl_status whorl_discover_get(whorl_answers *answers, size_t index, whorl_answer *answer);

// Ends answers, and what they point to. Null is allowed.
//
// # Safety
// - `answers` is null, or came from `whorl_discover` and was not freed; it is not used again.
void whorl_discover_free(whorl_answers *answers);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* WHORL_H */
