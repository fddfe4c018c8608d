"""The tables from operation to handler: for clients, for those who want spreading, for members."""

from __future__ import annotations

from typing import Final

from conclave.service import (
    change_handlers,
    context_handlers,
    encapsulation_handlers,
    key_handlers,
    login_handlers,
    object_handlers,
    token_handlers,
    wrap_handlers,
)
from conclave.service.assigned import NO_KEYRING, of_keyring
from conclave.service.forwarding import forward
from conclave.service.requests import Handler
from conclave.service.spreader import SPREAD
from conclave.service.wire import Operation

HANDLERS: Final[dict[int, Handler]] = {
    int(operation): handler if operation in NO_KEYRING else of_keyring(handler)
    for operation, handler in (
        (Operation.HELLO, token_handlers.hello),
        (Operation.PING, token_handlers.ping),
        (Operation.LIST_TOKENS, token_handlers.list_tokens),
        (Operation.TOKEN_INFO, token_handlers.token_info),
        (Operation.MECHANISMS, token_handlers.mechanisms),
        (Operation.MEMBERS, token_handlers.members),
        (Operation.LOGIN, login_handlers.login),
        (Operation.LOGOUT, login_handlers.logout),
        (Operation.SET_PIN, login_handlers.set_pin),
        (Operation.INIT_PIN, login_handlers.init_pin),
        (Operation.INIT_TOKEN, login_handlers.init_token),
        (Operation.FIND, object_handlers.find),
        (Operation.GET_ATTRIBUTES, object_handlers.get_attributes),
        (Operation.SET_ATTRIBUTES, change_handlers.set_attributes),
        (Operation.CREATE_OBJECT, change_handlers.create_object),
        (Operation.COPY_OBJECT, change_handlers.copy_object),
        (Operation.DESTROY_OBJECT, change_handlers.destroy_object),
        (Operation.OBJECT_SIZE, object_handlers.get_size),
        (Operation.KEY_INFO, object_handlers.get_key_info),
        (Operation.GENERATE_KEY, change_handlers.generate_key),
        (Operation.GENERATE_KEY_PAIR, change_handlers.generate_key_pair),
        (Operation.WRAP_KEY, wrap_handlers.wrap_key),
        (Operation.UNWRAP_KEY, wrap_handlers.unwrap_key),
        (Operation.DERIVE_KEY, wrap_handlers.derive_key),
        (Operation.SIGN_RECOVER, key_handlers.sign_recover),
        (Operation.VERIFY_RECOVER, key_handlers.verify_recover),
        (Operation.CONTEXT_LOGIN, context_handlers.context_login),
        (Operation.USE_IN_CONTEXT, context_handlers.use_in_context),
        (Operation.SIGN, key_handlers.sign),
        (Operation.VERIFY, key_handlers.verify),
        (Operation.ENCRYPT, key_handlers.encrypt),
        (Operation.DECRYPT, key_handlers.decrypt),
        (Operation.ENCAPSULATE_KEY, encapsulation_handlers.encapsulate_key),
        (Operation.DECAPSULATE_KEY, encapsulation_handlers.decapsulate_key),
        (Operation.RANDOM, token_handlers.random_bytes),
    )
}

SPREADING: Final[dict[int, Handler]] = {**HANDLERS, **SPREAD}
"""For clients that talk to this member only, and leave the choice of members to it."""

FOR_MEMBERS: Final[dict[int, Handler]] = {
    int(Operation.HELLO): token_handlers.hello,
    int(Operation.PING): token_handlers.ping,
    int(Operation.FORWARD): forward,
}
"""For the workers of other members."""
