//! Answers the kernel's requests from the tree of inodes, unless the file system lacks the operation.

use super::tree::{Content, Inode, Tree};
use super::{Lacks, Operation};
use fuser::{
    BsdFileFlags, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

/// The kernel caches nothing, so that it requests everything.
const ASK_AGAIN: Duration = Duration::ZERO;

pub struct Server {
    tree: Mutex<Tree>,
    lacks: Arc<Mutex<Lacks>>,
}

fn code(error: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(error.raw_os_error())
}

/// Sends what was found, or the error.
macro_rules! answer {
    ($reply:ident, $result:expr, $found:pat => $send:expr) => {
        match $result {
            Ok($found) => $send,
            Err(error) => $reply.error(code(error)),
        }
    };
}

impl Server {
    pub fn new(lacks: Arc<Mutex<Lacks>>) -> Self {
        Self { tree: Mutex::new(Tree::new()), lacks }
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().expect("the tree")
    }

    fn ask(&self, operation: Operation) -> Result<(), Errno> {
        self.lacks.lock().expect("the list").ask(operation)
    }

    fn stat(&self, number: u64) -> Result<fuser::FileAttr, Errno> {
        Ok(self.tree().inode(number)?.stat(number))
    }

    fn add(&self, parent: INodeNo, name: &OsStr, inode: Inode) -> Result<fuser::FileAttr, Errno> {
        let number = self.tree().add(parent.0, name, inode)?;
        self.stat(number)
    }
}

fn at(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

/// Answers a request for an attribute, or for the list of attributes: with its length, or with its bytes.
fn send_attribute(reply: ReplyXattr, found: Result<Vec<u8>, Errno>, room: u32) {
    answer!(reply, found, value => match room {
        0 => reply.size(value.len() as u32),
        room if value.len() > room as usize => reply.error(code(Errno::RANGE)),
        _ => reply.data(&value),
    })
}

fn send_entry(reply: ReplyEntry, found: Result<fuser::FileAttr, Errno>) {
    answer!(reply, found, stat => reply.entry(&ASK_AGAIN, &stat, Generation(0)))
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Otherwise the kernel keeps the locks itself, and requests none.
        if self.lacks.lock().expect("the list").refused.contains_key(&Operation::Lock) {
            let locks = InitFlags::FUSE_POSIX_LOCKS | InitFlags::FUSE_FLOCK_LOCKS;
            let unknown = |_| std::io::Error::other("the kernel knows no locks of file systems");
            config.add_capabilities(locks).map_err(unknown)?;
        }
        Ok(())
    }

    fn setlk(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _: u64,
        _: u64,
        _: i32,
        _: u32,
        _: bool,
        reply: ReplyEmpty,
    ) {
        answer!(reply, self.ask(Operation::Lock), () => reply.ok())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let number = self.tree().find(parent.0, name);
        send_entry(reply, number.and_then(|number| self.stat(number)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.stat(ino.0), stat => reply.attr(&ASK_AGAIN, &stat))
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = || {
            if mode.is_some() {
                self.ask(Operation::SetMode)?;
            }
            if size.is_some() {
                self.ask(Operation::SetLength)?;
            }
            // If a request changes the length and a time, the kernel set the time, not the program.
            if (atime.is_some() || mtime.is_some()) && size.is_none() {
                self.ask(Operation::SetTimes)?;
            }
            let mut tree = self.tree();
            let inode = tree.inode(ino.0)?;
            if let Some(size) = size {
                inode.bytes()?.resize(size as usize, 0);
            }
            if let Some(mode) = mode {
                inode.mode = (mode & 0o7777) as u16;
            }
            inode.owner = (uid.unwrap_or(inode.owner.0), gid.unwrap_or(inode.owner.1));
            inode.accessed = atime.map_or(inode.accessed, at);
            inode.modified = mtime.map_or(inode.modified, at);
            Ok(inode.stat(ino.0))
        };
        answer!(reply, change(), stat => reply.attr(&ASK_AGAIN, &stat))
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let mut tree = self.tree();
        match tree.inode(ino.0).map(|inode| &inode.content) {
            Ok(Content::Target(target)) => reply.data(target.as_bytes()),
            _ => reply.error(code(Errno::INVAL)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let kind = match rustix::fs::FileType::from_raw_mode(mode) {
            rustix::fs::FileType::Socket => FileType::Socket,
            rustix::fs::FileType::Fifo => FileType::NamedPipe,
            _ => FileType::RegularFile,
        };
        let allowed = if kind == FileType::Socket { self.ask(Operation::MakeSocket) } else { Ok(()) };
        let inode = Inode::new(kind, mode & !umask, (request.uid(), request.gid()));
        send_entry(reply, allowed.and_then(|()| self.add(parent, name, inode)));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let inode = Inode::new(FileType::Directory, mode & !umask, (request.uid(), request.gid()));
        send_entry(reply, self.add(parent, name, inode));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.tree().remove(parent.0, name), () => reply.ok())
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.tree().remove(parent.0, name), () => reply.ok())
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let mut inode = Inode::new(FileType::Symlink, 0o777, (request.uid(), request.gid()));
        inode.content = Content::Target(target.as_os_str().to_owned());
        send_entry(reply, self.add(parent, name, inode));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let allowed = if flags.is_empty() { Ok(()) } else { self.ask(Operation::RenameWithFlags) };
        let (from, to) = ((parent.0, name), (new_parent.0, new_name));
        let done = allowed.and_then(|()| self.tree().rename(from, to, flags.is_empty()));
        answer!(reply, done, () => reply.ok())
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let link = || {
            self.ask(Operation::Link)?;
            let splits = self.lacks.lock().expect("the list").splits_links;
            let mut tree = self.tree();
            if splits {
                let copy = tree.inode(ino.0)?.clone();
                return tree.add(parent.0, name, Inode { names: 1, ..copy });
            }
            tree.link(ino.0, parent.0, name).map(|()| ino.0)
        };
        let linked = link();
        send_entry(reply, linked.and_then(|number| self.stat(number)));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let inode = Inode::new(FileType::RegularFile, mode & !umask, (request.uid(), request.gid()));
        answer!(reply, self.add(parent, name, inode), stat => {
            reply.created(&ASK_AGAIN, &stat, Generation(0), FileHandle(0), FopenFlags::empty());
        })
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut tree = self.tree();
        answer!(reply, tree.inode(ino.0).and_then(Inode::bytes), bytes => {
            let from = bytes.len().min(offset as usize);
            reply.data(&bytes[from..bytes.len().min(from + size as usize)]);
        })
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let store = || {
            self.ask(Operation::Write)?;
            let mut tree = self.tree();
            let bytes = tree.inode(ino.0)?.bytes()?;
            let (from, to) = (offset as usize, offset as usize + data.len());
            bytes.resize(bytes.len().max(to), 0);
            bytes[from..to].copy_from_slice(data);
            Ok(data.len() as u32)
        };
        answer!(reply, store(), count => reply.written(count))
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        answer!(reply, self.ask(Operation::Flush), () => reply.ok())
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.ask(Operation::Sync), () => reply.ok())
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.ask(Operation::SyncDirectory), () => reply.ok())
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut tree = self.tree();
        let names = match tree.names(ino.0) {
            Ok(names) => names.clone(),
            Err(error) => return reply.error(code(error)),
        };
        let dots = [".", ".."].map(|dots| (dots.into(), ino.0));
        for (at, (name, number)) in dots.into_iter().chain(names).enumerate().skip(offset as usize) {
            let kind = tree.inode(number).map_or(FileType::RegularFile, |inode| inode.kind);
            if reply.add(INodeNo(number), at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn setxattr(
        &self,
        _: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        _: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let set = || {
            self.ask(Operation::SetAttribute)?;
            self.tree().inode(ino.0)?.attributes.insert(name.to_owned(), value.to_owned());
            Ok(())
        };
        answer!(reply, set(), () => reply.ok())
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let value = |inode: &mut Inode| inode.attributes.get(name).cloned().ok_or(Errno::NODATA);
        let found = self.tree().inode(ino.0).and_then(value);
        send_attribute(reply, found, size);
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let list = |inode: &mut Inode| {
            let names = inode.attributes.keys();
            names.flat_map(|name| name.as_bytes().iter().copied().chain([0])).collect()
        };
        let found = self.tree().inode(ino.0).map(list);
        send_attribute(reply, found, size);
    }
}
