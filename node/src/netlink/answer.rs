//! Reading what the kernel answers: one datagram holds several messages (`man 7 netlink`).

use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_DUMP_INTR, NetlinkMessage, NetlinkPayload};

use super::Refused;
use super::message::RawMessage;

/// What has been read of the answer to one request.
#[derive(Debug, Default)]
pub struct NetlinkAnswer {
    /// The objects.
    pub objects: Vec<RawMessage>,
    /// The list changed while the kernel sent it (`NLM_F_DUMP_INTR`): objects may be missing or twice.
    pub is_interrupted: bool,
}

impl NetlinkAnswer {
    /// Reads one datagram. Returns true if the answer is complete.
    ///
    /// Messages of another `sequence` answer an earlier request, whose caller no longer waits: they are skipped.
    ///
    /// # Errors
    /// [`Refused`] if the kernel refuses the request, or if a message cannot be read.
    pub fn read(&mut self, mut bytes: &[u8], sequence: u32) -> Result<bool, Refused> {
        while bytes.len() >= HEADER {
            let message = NetlinkMessage::<RawMessage>::deserialize(bytes).map_err(Refused::damaged)?;
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
            bytes = bytes.get(length.next_multiple_of(4).max(HEADER)..).unwrap_or_default();
            if message.header.sequence_number != sequence {
                continue;
            }
            self.is_interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
            match message.payload {
                NetlinkPayload::InnerMessage(object) => self.objects.push(object),
                NetlinkPayload::Done(done) if done.code == 0 => return Ok(true),
                NetlinkPayload::Done(done) => return Err(Refused::silent(Errno::from_raw(done.code.saturating_abs()))),
                NetlinkPayload::Error(error) => match error.raw_code() {
                    0 => return Ok(true),
                    code => {
                        return Err(Refused {
                            errno: Errno::from_raw(code.saturating_abs()),
                            words: words(&error.header),
                        });
                    }
                },
                _ => {}
            }
        }
        Ok(false)
    }
}

/// The length of a message's header (`NLMSG_HDRLEN`).
const HEADER: usize = 16;

/// The kernel's explanation (`NLMSGERR_ATTR_MSG`): the attributes after the header of the request, which is all of the
/// request that comes back with `NETLINK_CAP_ACK`.
fn words(header: &[u8]) -> String {
    const MESSAGE: u16 = 1;
    let mut rest = header.get(HEADER..).unwrap_or_default();
    while let [l0, l1, t0, t1, tail @ ..] = rest {
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let Some(value) = length.checked_sub(4).and_then(|length| tail.get(..length)) else { break };
        if u16::from_ne_bytes([*t0, *t1]) & 0x3fff == MESSAGE {
            return String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use nix::libc::RTM_NEWLINK;
    use rtnetlink::packet_core::{DoneMessage, NetlinkHeader};
    use rtnetlink::packet_route::link::LinkMessage;

    use super::*;

    #[test]
    fn the_kernels_words_are_found_among_the_attributes() {
        let mut header = vec![0_u8; 16];
        header.extend([8, 0, 2, 0, 1, 2, 3, 4]);
        header.extend([10, 0, 1, 0]);
        header.extend(b"wrong\0\0\0");
        assert_eq!(words(&header), "wrong");
        for cut in 0..header.len() {
            drop(words(&header[..cut]));
        }
        assert_eq!(words(&[0; 16]), "");
    }

    fn message(sequence: u32, flags: u16, payload: NetlinkPayload<RawMessage>) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        (header.sequence_number, header.flags) = (sequence, flags);
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn link(sequence: u32, flags: u16) -> Vec<u8> {
        let link = RawMessage::new(RTM_NEWLINK, &LinkMessage::default());
        message(sequence, flags, NetlinkPayload::InnerMessage(link))
    }

    fn done(sequence: u32, flags: u16) -> Vec<u8> {
        message(sequence, flags, NetlinkPayload::Done(DoneMessage::default()))
    }

    #[test]
    fn answers_to_an_earlier_request_are_skipped() {
        let mut answer = NetlinkAnswer::default();
        let late = [link(6, 0), done(6, 0), link(7, 0)].concat();
        assert_eq!(answer.read(&late, 7), Ok(false));
        assert_eq!(answer.objects.len(), 1);
        assert_eq!(answer.read(&done(7, 0), 7), Ok(true));
        assert!(!answer.is_interrupted);
    }

    #[test]
    fn a_list_that_changed_meanwhile_is_marked() {
        for list in [[link(1, NLM_F_DUMP_INTR), done(1, 0)], [link(1, 0), done(1, NLM_F_DUMP_INTR)]] {
            let mut answer = NetlinkAnswer::default();
            assert_eq!(answer.read(&list.concat(), 1), Ok(true));
            assert!(answer.is_interrupted);
        }
    }

    #[test]
    fn nothing_that_is_cut_short_is_read_past_its_end() {
        let whole = [link(1, 0), done(1, 0)].concat();
        for cut in 0..whole.len() {
            drop(NetlinkAnswer::default().read(&whole[..cut], 1));
        }
    }
}
