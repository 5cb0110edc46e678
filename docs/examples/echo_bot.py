"""A bot that says back whatever it is told, one to one.

It confirms a message once it has answered it, and an answer's client_id follows from the message:
so over crashes of the bot, the server or the network everything is answered, and once.

    CHAT_URL=http://127.0.0.1:8080 CHAT_EMAIL=echo@example.org CHAT_PASSWORD=… python echo_bot.py
"""

from __future__ import annotations

import asyncio
import logging
import os

from chatd.client import Client, Message, Refused, SignedOut, Unreachable

log = logging.getLogger("echo_bot")


async def answer(bot: Client, message: Message) -> None:
    if message.own or message.conversation.user is None:
        return
    try:
        await bot.reply(message, message.text, client_id=f"echo-{message.id}")
    except Refused as error:
        log.warning("no answer to %s: %s", message.id, error)


async def serve() -> None:
    bot = await Client.sign_in(
        os.environ["CHAT_URL"],
        os.environ["CHAT_EMAIL"],
        os.environ["CHAT_PASSWORD"],
        explicit=True,
    )
    async with bot:
        log.info("signed in as %s", bot.user)
        async for event in bot:
            if isinstance(event, Message):
                await answer(bot, event)
                await bot.received(event)


async def main() -> None:
    while True:
        try:
            await serve()
        except (SignedOut, Unreachable) as error:
            # While connected the client comes back by itself. This is for a token that ended
            # while the server was out of reach, and for a server that is not there yet.
            log.warning("%s", error)
            await asyncio.sleep(5)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main())
