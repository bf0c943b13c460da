//! SPDY/3.1 as kubectl speaks it: streams that the client opens, no flow control, header blocks
//! in one zlib stream per direction with the protocol's dictionary.

use std::io;
use std::sync::{Arc, Mutex};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::streams::Duplex;
use super::tls::lock;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;
const FRAME_MAX: usize = 16 * 1024 * 1024;
const DATA_MAX: usize = 64 * 1024;

/// Names and values; a name may come more than once.
pub(crate) type Fields = Vec<(String, String)>;

/// What the client did.
#[derive(Debug)]
pub(crate) enum Frame {
    Opened {
        id: u32,
        fields: Fields,
    },
    Data {
        id: u32,
        bytes: Vec<u8>,
    },
    /// No more from the client on this stream.
    Finished {
        id: u32,
    },
    Reset {
        id: u32,
    },
}

/// A session: one thread runs it, any may send on it.
pub(crate) struct Session {
    carrier: Arc<dyn Duplex>,
    deflate: Mutex<Compress>,
}

impl Session {
    pub(crate) fn new(carrier: Arc<dyn Duplex>) -> io::Result<Arc<Self>> {
        let mut deflate = Compress::new(Compression::fast(), true);
        deflate.set_dictionary(&dictionary()).map_err(io::Error::other)?;
        Ok(Arc::new(Self { carrier, deflate: Mutex::new(deflate) }))
    }

    /// Reads frames until the peer goes away or breaks the protocol. Pings are answered here.
    pub(crate) fn run(&self, mut on_frame: impl FnMut(Frame)) -> io::Result<()> {
        let mut inflate = Decompress::new(true);
        loop {
            let head = match self.exactly(8) {
                Ok(head) => head,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            };
            let [a, b, c, d, flags, l0, l1, l2] = head.as_slice() else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            let len = u32::from_be_bytes([0, *l0, *l1, *l2]) as usize;
            if len > FRAME_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let payload = self.exactly(len)?;
            if a & 0x80 == 0 {
                let id = u32::from_be_bytes([*a, *b, *c, *d]);
                if !payload.is_empty() {
                    on_frame(Frame::Data { id, bytes: payload });
                }
                if flags & FIN != 0 {
                    on_frame(Frame::Finished { id });
                }
                continue;
            }
            match u16::from_be_bytes([*c, *d]) {
                SYN_STREAM => {
                    let id = number(&payload, 0)?;
                    let block = payload.get(10..).ok_or(io::ErrorKind::InvalidData)?;
                    on_frame(Frame::Opened { id, fields: read_fields(&mut inflate, block)? });
                    if flags & FIN != 0 {
                        on_frame(Frame::Finished { id });
                    }
                }
                RST_STREAM => on_frame(Frame::Reset { id: number(&payload, 0)? }),
                PING => self.control(PING, 0, &payload)?,
                GOAWAY => return Ok(()),
                _ => {}
            }
        }
    }

    /// Accepts a stream.
    pub(crate) fn reply(&self, id: u32) -> io::Result<()> {
        // The compressor's state follows the order of the frames on the wire.
        let mut deflate = lock(&self.deflate);
        let mut payload = id.to_be_bytes().to_vec();
        payload.extend(compress(&mut deflate, &0_u32.to_be_bytes())?);
        self.control(SYN_REPLY, 0, &payload)
    }

    pub(crate) fn data(&self, id: u32, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(DATA_MAX).try_for_each(|part| self.data_frame(id, 0, part))
    }

    /// No more from the server on this stream.
    pub(crate) fn finish(&self, id: u32) -> io::Result<()> {
        self.data_frame(id, FIN, &[])
    }

    fn data_frame(&self, id: u32, flags: u8, bytes: &[u8]) -> io::Result<()> {
        let mut frame = (id & 0x7fff_ffff).to_be_bytes().to_vec();
        frame.extend(flags_and_length(flags, bytes.len()));
        frame.extend_from_slice(bytes);
        self.carrier.write_all(&frame)
    }

    fn control(&self, kind: u16, flags: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = vec![0x80, 3];
        frame.extend(kind.to_be_bytes());
        frame.extend(flags_and_length(flags, payload.len()));
        frame.extend_from_slice(payload);
        self.carrier.write_all(&frame)
    }

    fn exactly(&self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut rest = bytes.as_mut_slice();
        while !rest.is_empty() {
            match self.carrier.read(rest)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => rest = rest.get_mut(read..).unwrap_or_default(),
            }
        }
        Ok(bytes)
    }
}

fn flags_and_length(flags: u8, len: usize) -> [u8; 4] {
    let [_, a, b, c] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    [flags, a, b, c]
}

fn number(bytes: &[u8], at: usize) -> io::Result<u32> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    found.map(|bytes| u32::from_be_bytes(*bytes)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn read_fields(inflate: &mut Decompress, block: &[u8]) -> io::Result<Fields> {
    let plain = decompress(inflate, block)?;
    let mut at = 4;
    let mut text = || -> io::Result<String> {
        let len = number(&plain, at)? as usize;
        let found = plain.get(at + 4..).and_then(|rest| rest.get(..len));
        at += 4 + len;
        let found = found.ok_or(io::ErrorKind::InvalidData)?;
        Ok(String::from_utf8_lossy(found).into_owned())
    };
    let mut fields = Vec::new();
    for _ in 0..number(&plain, 0)? {
        let name = text()?.to_lowercase();
        let values = text()?;
        fields.extend(values.split('\0').map(|value| (name.clone(), value.to_owned())));
    }
    Ok(fields)
}

fn compress(deflate: &mut Compress, plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(plain.len() + 128);
    deflate.compress_vec(plain, &mut out, FlushCompress::Sync).map_err(io::Error::other)?;
    Ok(out)
}

fn decompress(inflate: &mut Decompress, mut block: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(4096);
    loop {
        let before = inflate.total_in();
        let result = inflate.decompress_vec(block, &mut out, FlushDecompress::Sync);
        let used = usize::try_from(inflate.total_in() - before).unwrap_or(usize::MAX);
        block = block.get(used..).unwrap_or_default();
        match result {
            Ok(Status::StreamEnd) => return Ok(out),
            Ok(_) if out.len() < out.capacity() && block.is_empty() => return Ok(out),
            Ok(_) if out.len() > FRAME_MAX => return Err(io::ErrorKind::InvalidData.into()),
            Ok(_) => out.reserve(4096),
            Err(error) if error.needs_dictionary().is_some() => {
                inflate.set_dictionary(&dictionary()).map_err(io::Error::other)?;
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

/// The preset dictionary of SPDY/3: names with their lengths, then common values.
fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1423);
    for name in DICTIONARY_NAMES.split(',') {
        bytes.extend(u32::try_from(name.len()).unwrap_or_default().to_be_bytes());
        bytes.extend_from_slice(name.as_bytes());
    }
    bytes.extend_from_slice(DICTIONARY_VALUES.as_bytes());
    bytes
}

const DICTIONARY_NAMES: &str = "options,head,post,put,delete,trace,accept,accept-charset,\
    accept-encoding,accept-language,accept-ranges,age,allow,authorization,cache-control,\
    connection,content-base,content-encoding,content-language,content-length,content-location,\
    content-md5,content-range,content-type,date,etag,expect,expires,from,host,if-match,\
    if-modified-since,if-none-match,if-range,if-unmodified-since,last-modified,location,\
    max-forwards,pragma,proxy-authenticate,proxy-authorization,range,referer,retry-after,server,\
    te,trailer,transfer-encoding,upgrade,user-agent,vary,via,warning,www-authenticate,method,get,\
    status,200 OK,version,HTTP/1.1,url,public,set-cookie,keep-alive,origin";

const DICTIONARY_VALUES: &str = "1001012012022052063003023033043053063074024054064074084094104\
    11412413414415416417502504505203 Non-Authoritative Information204 No Content301 Moved \
    Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server \
    Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov \
    Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,\
    image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-\
    age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
