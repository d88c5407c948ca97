#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
store - look at the store of a configuration, and change it behind the
program's back; a directory or a bucket, as the configuration says.

usage: store.py CONFIG keys PREFIX          print keys, sorted
       store.py CONFIG size KEY             print how many bytes it has
       store.py CONFIG remove PREFIX        remove what begins so
       store.py CONFIG move PREFIX PREFIX   rename what begins so
       store.py CONFIG copy PREFIX CONFIG   copy what begins so to another one
       store.py CONFIG change KEY OFFSET [HEX]
                                            these bytes in place of what is
                                            there; without them, one bit turned
       store.py CONFIG bucket               make the bucket

Signs by itself, written from the description of Signature Version 4.
"""

import datetime
import hashlib
import hmac
import http.client
import os
import re
import ssl
import sys
import urllib.parse
import xml.etree.ElementTree

XMLNS = '{http://s3.amazonaws.com/doc/2006-03-01/}'


def read_settings(path):
    """Returns what stands before the first section; the first of each."""
    settings = {}
    with open(path, encoding='utf-8') as config:
        for line in config:
            if line.startswith('['):
                break
            name, _, value = line.strip().partition(' ')
            settings.setdefault(name, value.strip())
    return settings


class Directory:
    """A store of s3dir."""

    def __init__(self, settings):
        self.base = settings['s3dir']

    def path(self, key):
        return os.path.join(self.base, key)

    def keys(self, prefix):
        found = []
        for path, _, names in os.walk(self.base):
            for name in names:
                key = os.path.relpath(os.path.join(path, name), self.base)
                if key.startswith(prefix) and not key.startswith('~'):
                    found.append(key)
        return sorted(found)

    def get(self, key):
        with open(self.path(key), 'rb') as file:
            return file.read()

    def put(self, key, data):
        os.makedirs(os.path.dirname(self.path(key)), exist_ok=True)
        with open(self.path(key), 'wb') as file:
            file.write(data)

    def remove(self, key):
        os.unlink(self.path(key))
        parent = os.path.dirname(self.path(key))
        # As on S3, there is nothing but objects.
        while parent != self.base and not os.listdir(parent):
            os.rmdir(parent)
            parent = os.path.dirname(parent)

    def make(self):
        os.makedirs(self.base, exist_ok=True)


class Bucket:
    """A store of s3host and s3bucket; the first host and port will do."""

    def __init__(self, settings):
        self.settings = settings
        self.bucket = settings['s3bucket']
        self.prefix = settings.get('s3prefix', '')
        self.region = settings.get('s3region', 'us-east-1')
        port = int(settings['s3port'])
        # Not every resolver knows the names below it.
        address = re.sub(r'.*\.localhost$', 'localhost', settings['s3host'])
        if settings.get('s3ssl', '1') == '1':
            trusted = ssl.create_default_context(cafile=settings['s3ca'])
            self.connection = http.client.HTTPSConnection(
                address, port, context=trusted)
        else:
            self.connection = http.client.HTTPConnection(address, port)
        self.host = f'{settings["s3host"]}:{port}'

    def sign(self, method, path, query, body):
        """Returns the fields of a signed request."""
        now = datetime.datetime.now(datetime.timezone.utc)
        date = now.strftime('%Y%m%dT%H%M%SZ')
        digest = hashlib.sha256(body).hexdigest()
        fields = {'host': self.host, 'x-amz-content-sha256': digest,
                  'x-amz-date': date}
        names = ';'.join(fields)
        lines = ''.join(f'{n}:{v}\n' for n, v in fields.items())
        request = '\n'.join([method, path, query, lines, names, digest])
        scope = [date[:8], self.region, 's3', 'aws4_request']
        text = '\n'.join(['AWS4-HMAC-SHA256', date, '/'.join(scope),
                          hashlib.sha256(request.encode()).hexdigest()])
        key = ('AWS4' + self.settings['s3secretkey']).encode()
        for part in scope + [text]:
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        fields['authorization'] = (
            'AWS4-HMAC-SHA256 Credential=' +
            '/'.join([self.settings['s3accesskey']] + scope) +
            f', SignedHeaders={names}, Signature={key.hex()}')
        return fields

    def ask(self, method, key='', query=(), body=b''):
        """Returns the body of the answer; ends the program if it is bad."""
        path = f'/{self.bucket}'
        if key:
            path += '/' + urllib.parse.quote(key, safe='/~')
        query = '&'.join(
            f'{n}={urllib.parse.quote(v, safe="~")}' for n, v in sorted(query))
        self.connection.request(
            method, path + ('?' + query if query else ''), body,
            self.sign(method, path, query, body))
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status >= 300:
            sys.exit(f'{method} {path}: {answer.status} {data.decode()}')
        return data

    def keys(self, prefix):
        found, after = [], ''
        while True:
            page = xml.etree.ElementTree.fromstring(self.ask('GET', query=[
                ('list-type', '2'), ('start-after', after),
                ('prefix', self.prefix + prefix)]))
            keys = [item.findtext(XMLNS + 'Key')
                    for item in page.iter(XMLNS + 'Contents')]
            found += [key.removeprefix(self.prefix) for key in keys]
            if page.findtext(XMLNS + 'IsTruncated') != 'true':
                return sorted(found)
            after = keys[-1]

    def get(self, key):
        return self.ask('GET', self.prefix + key)

    def put(self, key, data):
        self.ask('PUT', self.prefix + key, body=data)

    def remove(self, key):
        self.ask('DELETE', self.prefix + key)

    def make(self):
        self.ask('PUT')


def open_store(config):
    settings = read_settings(config)
    return (Directory if 's3dir' in settings else Bucket)(settings)


def copy(source, prefix, target, new_prefix):
    """Copy what begins with prefix.  Returns the keys that were copied."""
    keys = source.keys(prefix)
    for key in keys:
        target.put(new_prefix + key.removeprefix(prefix), source.get(key))
    return keys


def change(store, key, offset, replacement):
    """Replace bytes of an object, or turn one bit of it."""
    data = bytearray(store.get(key))
    replacement = replacement or bytes([data[offset] ^ 1])
    data[offset:offset + len(replacement)] = replacement
    store.put(key, bytes(data))


def main():
    store, command, arguments = \
        open_store(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if command == 'keys':
        for key in store.keys(arguments[0]):
            print(key)
    elif command == 'size':
        print(len(store.get(arguments[0])))
    elif command == 'remove':
        for key in store.keys(arguments[0]):
            store.remove(key)
    elif command == 'move':
        for key in copy(store, arguments[0], store, arguments[1]):
            store.remove(key)
    elif command == 'copy':
        copy(store, arguments[0], open_store(arguments[1]), arguments[0])
    elif command == 'change':
        change(store, arguments[0], int(arguments[1]),
               bytes.fromhex(''.join(arguments[2:])))
    elif command == 'bucket':
        store.make()
    else:
        sys.exit(__doc__)


if __name__ == '__main__':
    main()
