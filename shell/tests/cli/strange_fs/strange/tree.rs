//! The files of the file system: inodes in memory. An inode without a name stays, because a process may have it open.

use fuser::{FileAttr, FileType, INodeNo};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

/// What an inode holds.
#[derive(Clone)]
pub enum Content {
    Bytes(Vec<u8>),
    Names(BTreeMap<OsString, u64>),
    Target(OsString),
    /// A socket or a fifo.
    Nothing,
}

/// One file, whatever its names.
#[derive(Clone)]
pub struct Inode {
    pub content: Content,
    pub kind: FileType,
    pub mode: u16,
    pub owner: (u32, u32),
    pub names: u32,
    pub accessed: SystemTime,
    pub modified: SystemTime,
    pub attributes: HashMap<OsString, Vec<u8>>,
}

/// All inodes, by number. The root is 1.
pub struct Tree {
    inodes: HashMap<u64, Inode>,
    next: u64,
}

impl Inode {
    pub fn new(kind: FileType, mode: u32, owner: (u32, u32)) -> Self {
        let content = match kind {
            FileType::Directory => Content::Names(BTreeMap::new()),
            FileType::RegularFile => Content::Bytes(Vec::new()),
            _ => Content::Nothing,
        };
        let now = SystemTime::now();
        let mode = (mode & 0o7777) as u16;
        let attributes = HashMap::new();
        Self { content, kind, mode, owner, names: 1, accessed: now, modified: now, attributes }
    }

    pub fn stat(&self, number: u64) -> FileAttr {
        let size = match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Target(target) => target.len() as u64,
            _ => 0,
        };
        FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: self.accessed,
            mtime: self.modified,
            ctime: self.modified,
            crtime: self.modified,
            kind: self.kind,
            perm: self.mode,
            nlink: self.names,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// The bytes of a regular file.
    pub fn bytes(&mut self) -> Result<&mut Vec<u8>, Errno> {
        match &mut self.content {
            Content::Bytes(bytes) => Ok(bytes),
            _ => Err(Errno::INVAL),
        }
    }
}

impl Tree {
    pub fn new() -> Self {
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let root = Inode::new(FileType::Directory, 0o700, owner);
        Self { inodes: HashMap::from([(1, root)]), next: 2 }
    }

    pub fn inode(&mut self, number: u64) -> Result<&mut Inode, Errno> {
        self.inodes.get_mut(&number).ok_or(Errno::NOENT)
    }

    /// The names in a directory.
    pub fn names(&mut self, directory: u64) -> Result<&mut BTreeMap<OsString, u64>, Errno> {
        match &mut self.inode(directory)?.content {
            Content::Names(names) => Ok(names),
            _ => Err(Errno::NOTDIR),
        }
    }

    pub fn find(&mut self, directory: u64, name: &OsStr) -> Result<u64, Errno> {
        self.names(directory)?.get(name).copied().ok_or(Errno::NOENT)
    }

    /// Puts a new inode under a new name; returns its number.
    pub fn add(&mut self, directory: u64, name: &OsStr, inode: Inode) -> Result<u64, Errno> {
        let number = self.next;
        self.give_name(directory, name, number)?;
        self.next += 1;
        self.inodes.insert(number, inode);
        Ok(number)
    }

    /// Gives an inode one more name.
    pub fn link(&mut self, number: u64, directory: u64, name: &OsStr) -> Result<(), Errno> {
        self.give_name(directory, name, number)?;
        self.inode(number)?.names += 1;
        Ok(())
    }

    pub fn remove(&mut self, directory: u64, name: &OsStr) -> Result<(), Errno> {
        let number = self.find(directory, name)?;
        if matches!(&self.inode(number)?.content, Content::Names(names) if !names.is_empty()) {
            return Err(Errno::NOTEMPTY);
        }
        self.names(directory)?.remove(name);
        self.inode(number)?.names -= 1;
        Ok(())
    }

    pub fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), replaces: bool) -> Result<(), Errno> {
        let number = self.find(from.0, from.1)?;
        match self.find(to.0, to.1) {
            Ok(_) if !replaces => return Err(Errno::EXIST),
            Ok(same) if same == number => return Ok(()), // as POSIX wants it
            Ok(_) => self.remove(to.0, to.1)?,
            Err(_) => {}
        }
        self.names(from.0)?.remove(from.1);
        self.give_name(to.0, to.1, number)
    }

    fn give_name(&mut self, directory: u64, name: &OsStr, number: u64) -> Result<(), Errno> {
        let names = self.names(directory)?;
        if names.contains_key(name) {
            return Err(Errno::EXIST);
        }
        names.insert(name.to_owned(), number);
        Ok(())
    }
}
