//! Message, as the application gets it.

use std::ops::Deref;

/// One message, lent: its body lies in the receive buffer, or in the inbox if it came in pieces. Derefs to the body.
///
/// ```
/// use raon_session::{Message, PacketHead};
/// let message = Message::new(PacketHead { id: 3 }, b"hello");
/// assert_eq!((message.head().id, message.len(), &message[..2]), (3, 5, &b"he"[..]));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a, H> {
    head: H,
    body: &'a [u8],
}

impl<'a, H: Copy> Message<'a, H> {
    /// A message of these parts.
    #[inline]
    pub const fn new(head: H, body: &'a [u8]) -> Self {
        Message { head, body }
    }

    /// Head: what its frame says of it beside the length.
    #[inline]
    pub const fn head(&self) -> H {
        self.head
    }

    /// The body, for as long as it is lent: longer than the borrow of this message.
    #[inline]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }
}

impl<H> Deref for Message<'_, H> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.body
    }
}

impl<H> AsRef<[u8]> for Message<'_, H> {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.body
    }
}
